# libgradc.so: the compiler and the runtime for other programs, behind the C interface of include/gradc/. It shows the functions
# of that interface and nothing else, hiding those of its libraries.
file(GLOB shared_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/capi/compile/*.cpp)
add_library(gradc_shared SHARED ${shared_sources})
set_target_properties(gradc_shared PROPERTIES
  OUTPUT_NAME gradc EXPORT_NAME gradc VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
  CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib
  LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/exported_symbols.map)
target_include_directories(gradc_shared PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
target_link_libraries(gradc_shared PRIVATE $<LINK_LIBRARY:WHOLE_ARCHIVE,gradc_capi> gradc_compiler)
gradc_hold_llvm(gradc_shared)
# nodelete: LLVM keeps the address of a handler of ours.
target_link_options(gradc_shared PRIVATE -Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/exported_symbols.map
                    -Wl,-z,nodelete -Wl,-Bsymbolic-functions -Wl,-u,gradc_source_folder)
if(NOT GRADC_SANITIZE)  # whose functions are the program's
  target_link_options(gradc_shared PRIVATE -Wl,-z,defs)
endif()
