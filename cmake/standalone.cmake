# libgradc_standalone.a: all that a compiled model needs besides its code, in one static library, so that linking one
# needs nothing but the C and C++ libraries. Debian ships fmt as a shared library only; standalone/bundled/fmt.cpp
# compiles it in.
# The C interface apart, without what compiles: libgradc.so holds it too (cmake/shared.cmake).
file(GLOB capi_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/capi/*.cpp)
add_library(gradc_capi STATIC ${capi_sources})
target_link_libraries(gradc_capi PUBLIC gradc_runtime)

file(GLOB standalone_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/standalone/*.cpp)
list(REMOVE_ITEM standalone_sources ${CMAKE_SOURCE_DIR}/standalone/main.cpp)
add_library(gradc_app STATIC ${standalone_sources})
target_link_libraries(gradc_app PUBLIC gradc_capi CLI11::CLI11)

add_library(gradc_bundled STATIC ${CMAKE_SOURCE_DIR}/standalone/main.cpp ${CMAKE_SOURCE_DIR}/standalone/bundled/fmt.cpp)
target_link_libraries(gradc_bundled PUBLIC gradc_app)
foreach(library gradc_bundled gradc_app gradc_capi gradc_runtime gradc_support)
  target_compile_options(${library} PRIVATE -ffunction-sections -fdata-sections)
  # The linker takes the object files that a program needs: a feature of an executable is there because its file is.
  set_target_properties(${library} PROPERTIES UNITY_BUILD OFF)
endforeach()
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT GRADC_SANITIZE)  # command lines and formatting, in every executable
  foreach(library gradc_bundled gradc_app gradc_capi gradc_support)
    target_compile_options(${library} PRIVATE -Os)
  endforeach()
endif()

find_library(ZLIB_STATIC libz.a REQUIRED)
find_library(NETTLE_STATIC libnettle.a REQUIRED)
find_library(PNG_STATIC libpng16.a REQUIRED)
find_library(JPEG_STATIC libjpeg.a REQUIRED)
set(GRADC_STANDALONE_FOLDER ${CMAKE_BINARY_DIR}/lib/gradc CACHE PATH "Where libgradc_standalone.a is written")
set(standalone_library ${GRADC_STANDALONE_FOLDER}/libgradc_standalone.a)
set(script ${CMAKE_BINARY_DIR}/generated/standalone.mri)
file(GENERATE OUTPUT ${script} CONTENT "create ${standalone_library}
addlib $<TARGET_FILE:gradc_bundled>
addlib $<TARGET_FILE:gradc_app>
addlib $<TARGET_FILE:gradc_capi>
addlib $<TARGET_FILE:gradc_runtime>
addlib $<TARGET_FILE:gradc_support>
addlib ${ZLIB_STATIC}
addlib ${NETTLE_STATIC}
addlib ${PNG_STATIC}
addlib ${JPEG_STATIC}
save
end
")
file(MAKE_DIRECTORY ${GRADC_STANDALONE_FOLDER})
add_custom_command(
  OUTPUT ${standalone_library}
  COMMAND ${CMAKE_COMMAND} -E rm -f ${standalone_library}
  COMMAND sh -c "${CMAKE_AR} -M < ${script}"
  DEPENDS gradc_bundled gradc_app gradc_capi gradc_runtime gradc_support ${script}
  VERBATIM)
add_custom_target(gradc_standalone ALL DEPENDS ${standalone_library})
