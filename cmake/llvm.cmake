# LLVM for gradc_codegen: the shared library for the tests, which are many; its static libraries for what is installed, the tool and
# libgradc. These hold what they use of LLVM and nothing else: the shared library with all its back ends, and z3, libxml2 and ICU
# behind it, would be mapped and relocated at every start (15 ms and 30 MB of memory).
option(GRADC_STATIC_LLVM "The tool and libgradc hold what they use of LLVM" ON)
set(held_llvm LLVM)
if(GRADC_STATIC_LLVM AND NOT GRADC_SANITIZE)
  llvm_map_components_to_libnames(held_llvm native AArch64 orcdebugging orcjit passes analysis)
endif()
# Evaluated for the target that is linked.
target_link_libraries(gradc_codegen PUBLIC "$<IF:$<BOOL:$<TARGET_PROPERTY:GRADC_HOLDS_LLVM>>,${held_llvm},LLVM>")
target_link_directories(gradc_codegen PUBLIC ${LLVM_LIBRARY_DIRS})

# The tool or library `target` holds its LLVM.
function(gradc_hold_llvm target)
  set_target_properties(${target} PROPERTIES GRADC_HOLDS_LLVM ON)
  if(GRADC_STATIC_LLVM AND NOT GRADC_SANITIZE)
    # Before the libraries: LLVM names z3 too, of which nothing is used.
    target_link_options(${target} PRIVATE -Wl,--gc-sections -Wl,--as-needed)
  endif()
endfunction()
