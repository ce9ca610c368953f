# `cmake --install`: the tool, what it links models with, the library with its headers, CMake and pkg-config files, examples, manual.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# LLVM may be in a folder of its own.
set_target_properties(gradc gradc_shared PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS gradc RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
# Where the tool looks for it: lib/gradc beside its own folder, on every system.
install(FILES ${standalone_library} DESTINATION lib/gradc)

install(TARGETS gradc_shared EXPORT gradcTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/gradc DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
set(config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/gradc)
install(EXPORT gradcTargets NAMESPACE gradc:: DESTINATION ${config_folder})
configure_package_config_file(cmake/gradcConfig.cmake.in ${CMAKE_BINARY_DIR}/generated/gradcConfig.cmake INSTALL_DESTINATION ${config_folder})
# Until 1.0 a minor version may change the interface.
write_basic_package_version_file(${CMAKE_BINARY_DIR}/generated/gradcConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/generated/gradcConfig.cmake ${CMAKE_BINARY_DIR}/generated/gradcConfigVersion.cmake
        DESTINATION ${config_folder})
# The folders relative to the file's own, so that the tree may be moved.
file(RELATIVE_PATH pc_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/gradc.pc.in ${CMAKE_BINARY_DIR}/generated/gradc.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/generated/gradc.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(FILES README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY examples DESTINATION ${CMAKE_INSTALL_DATADIR}/gradc)
