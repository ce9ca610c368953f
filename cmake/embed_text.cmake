# Embeds a text file into a target: generates a C++ file that defines the constant NAME, declared in HEADER.
function(gradc_embed_text target file name header namespace)
  set(output ${CMAKE_BINARY_DIR}/generated/${name}.cpp)
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${output} -DFILE=${CMAKE_SOURCE_DIR}/${file} -DNAME=${name} -DHEADER=${header}
            -DNAMESPACE=${namespace} -P ${CMAKE_SOURCE_DIR}/cmake/write_text.cmake
    DEPENDS ${CMAKE_SOURCE_DIR}/${file} ${CMAKE_SOURCE_DIR}/cmake/write_text.cmake
    VERBATIM)
  target_sources(${target} PRIVATE ${output})
endfunction()
