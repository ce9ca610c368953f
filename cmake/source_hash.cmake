# Gives codegen the hash of its own sources, so that objects which another build made are told apart: generates source_hash.cpp.
function(gradc_source_hash target)
  set(output ${CMAKE_BINARY_DIR}/generated/source_hash.cpp)
  file(GLOB files RELATIVE ${CMAKE_SOURCE_DIR} CONFIGURE_DEPENDS
       ${CMAKE_SOURCE_DIR}/codegen/*.h ${CMAKE_SOURCE_DIR}/codegen/*.cpp ${CMAKE_SOURCE_DIR}/ir/loop/*.h ${CMAKE_SOURCE_DIR}/ir/loop/*.cpp)
  list(APPEND files support/location.h runtime/abi.h)
  list(TRANSFORM files PREPEND ${CMAKE_SOURCE_DIR}/ OUTPUT_VARIABLE paths)
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${output} -DROOT=${CMAKE_SOURCE_DIR} "-DFILES=${files}" -P ${CMAKE_SOURCE_DIR}/cmake/write_source_hash.cmake
    DEPENDS ${paths} ${CMAKE_SOURCE_DIR}/cmake/write_source_hash.cmake
    VERBATIM)
  target_sources(${target} PRIVATE ${output})
  set_source_files_properties(${output} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
endfunction()
