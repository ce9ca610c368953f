# Writes OUTPUT, a C++ file defining the constant declared in codegen/source_hash.h from FILES (names relative to ROOT).
set(hashes "")
foreach(file ${FILES})
  file(SHA256 ${ROOT}/${file} hash)
  string(APPEND hashes "${hash} ${file}\n")
endforeach()
string(SHA256 hash "${hashes}")
file(WRITE ${OUTPUT} "#include \"codegen/source_hash.h\"\nnamespace gradc::codegen {\nconst char* const source_hash = \"${hash}\";\n}  // namespace gradc::codegen\n")
