# Embeds frontend/prelude/*.nn into the frontend: generates prelude_data.cpp with one raw string a file.
function(gradc_embed_prelude target)
  set(output ${CMAKE_BINARY_DIR}/generated/prelude_data.cpp)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/frontend/prelude/*.nn)
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${output} "-DFILES=${files}" -P ${CMAKE_SOURCE_DIR}/cmake/write_prelude.cmake
    DEPENDS ${files} ${CMAKE_SOURCE_DIR}/cmake/write_prelude.cmake
    VERBATIM)
  target_sources(${target} PRIVATE ${output})
endfunction()
