# Writes OUTPUT, a C++ file defining the constant NAME that HEADER declares in NAMESPACE: the text of FILE.
file(READ ${FILE} body)
file(WRITE ${OUTPUT} "#include \"${HEADER}\"\nnamespace ${NAMESPACE} {\nconst char* const ${NAME} = R\"TEXT(${body})TEXT\";\n}  // namespace ${NAMESPACE}\n")
