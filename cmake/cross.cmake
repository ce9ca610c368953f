# The standalone library a second time, by a cross compiler: `gradc compile --target aarch64` on another architecture
# links executables and libraries with it. It is this project again, with all but that library left out.
option(GRADC_CROSS_AARCH64 "Also build what programs for aarch64 are linked with (./dev build --cross)" OFF)
if(NOT GRADC_CROSS_AARCH64 OR CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64")
  return()
endif()

find_program(CROSS_AARCH64_COMPILER aarch64-linux-gnu-g++)
set(cross_missing "")
if(NOT CROSS_AARCH64_COMPILER)
  list(APPEND cross_missing g++-aarch64-linux-gnu)
endif()
foreach(library libz.a=zlib1g-dev libnettle.a=nettle-dev libpng16.a=libpng-dev libjpeg.a=libjpeg62-turbo-dev)
  string(REPLACE "=" ";" library "${library}")
  list(GET library 0 file)
  list(GET library 1 package)
  find_library(CROSS_AARCH64_${package} ${file} PATHS /usr/lib/aarch64-linux-gnu /usr/aarch64-linux-gnu/lib NO_DEFAULT_PATH)
  if(NOT CROSS_AARCH64_${package})
    list(APPEND cross_missing ${package}:arm64)
  endif()
endforeach()
if(cross_missing)
  list(JOIN cross_missing " " cross_missing)
  message(FATAL_ERROR "GRADC_CROSS_AARCH64 needs what is not here: ${cross_missing}\n"
    "(Debian: dpkg --add-architecture arm64 && apt-get update && apt-get install ${cross_missing}; ./dev build --cross does it)")
endif()

set(cross_folder ${CMAKE_BINARY_DIR}/lib/gradc/aarch64-linux-gnu)
include(ExternalProject)
ExternalProject_Add(gradc_standalone_aarch64
  SOURCE_DIR ${CMAKE_SOURCE_DIR}
  BINARY_DIR ${CMAKE_BINARY_DIR}/aarch64-linux-gnu
  CMAKE_ARGS -DCMAKE_TOOLCHAIN_FILE=${CMAKE_SOURCE_DIR}/cmake/aarch64-linux-gnu.cmake -DCMAKE_BUILD_TYPE=Release
             -DGRADC_STANDALONE_ONLY=ON -DGRADC_STANDALONE_FOLDER=${cross_folder}
  BUILD_ALWAYS ON  # sources may have changed; the inner build knows
  BUILD_BYPRODUCTS ${cross_folder}/libgradc_standalone.a
  INSTALL_COMMAND "")
add_dependencies(gradc gradc_standalone_aarch64)
install(FILES ${cross_folder}/libgradc_standalone.a DESTINATION lib/gradc/aarch64-linux-gnu)
