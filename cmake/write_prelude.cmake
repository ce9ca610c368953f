# Writes OUTPUT, a C++ file defining the array declared in frontend/prelude.h from FILES (a list of .nn files).
set(text "#include \"frontend/prelude.h\"\nnamespace gradc::frontend {\nconst std::vector<PreludeFile>& prelude_files() {\n  static const std::vector<PreludeFile> files = {\n")
foreach(file ${FILES})
  get_filename_component(name ${file} NAME)
  file(READ ${file} body)
  string(APPEND text "    {\"prelude/${name}\", R\"PRELUDE(${body})PRELUDE\"},\n")
endforeach()
string(APPEND text "  };\n  return files;\n}\n}  // namespace gradc::frontend\n")
file(WRITE ${OUTPUT} "${text}")
