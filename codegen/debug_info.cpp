// DWARF line tables from loop IR's locations.
#include "codegen/emit.h"

namespace gradc::codegen {

namespace {

bool in_prelude(const std::string& file) { return file.rfind("prelude/", 0) == 0; }

}  // namespace

Location shown_location(const Location& location) {
  if (!location.valid() || !location.file || !in_prelude(*location.file)) return location;
  for (const CallSite* site = location.call.get(); site; site = site->parent.get())
    if (site->line != 0 && !in_prelude(site->file))
      return {std::make_shared<const std::string>(site->file), site->line, 0, nullptr};
  return location;
}

DebugInfo::DebugInfo(llvm::Module& module, const std::string& main_file) : builder_(module) {
  module.addModuleFlag(llvm::Module::Warning, "Debug Info Version", llvm::DEBUG_METADATA_VERSION);
  module.addModuleFlag(llvm::Module::Warning, "Dwarf Version", 4);
  unit_ = builder_.createCompileUnit(llvm::dwarf::DW_LANG_C, file(main_file), "gradc", true, "", 0, "",
                                     llvm::DICompileUnit::LineTablesOnly);
}

llvm::DIFile* DebugInfo::file(const std::string& name) {
  llvm::DIFile*& f = files_[name];
  if (!f) f = builder_.createFile(name, ".");
  return f;
}

void DebugInfo::enter_function(llvm::Function& f, const std::string& shown_name, const Location& written) {
  const Location location = shown_location(written);
  llvm::DIFile* where = location.file ? file(*location.file) : unit_->getFile();
  auto* type = builder_.createSubroutineType(builder_.getOrCreateTypeArray({}));
  function_ =
      builder_.createFunction(where, shown_name, f.getName(), where, location.line, type, location.line,
                              llvm::DINode::FlagArtificial, llvm::DISubprogram::SPFlagDefinition);
  f.setSubprogram(function_);
  scopes_.clear();
}

llvm::DebugLoc DebugInfo::at(const Location& written) {
  const Location location = shown_location(written);
  llvm::LLVMContext& c = function_->getContext();
  if (!location.valid() || !location.file) return llvm::DILocation::get(c, 0, 0, function_);
  llvm::DIScope* scope = function_;
  if (llvm::DIFile* where = file(*location.file); where != function_->getFile()) {
    llvm::DIScope*& known = scopes_[where];
    if (!known) known = builder_.createLexicalBlockFile(function_, where);
    scope = known;
  }
  return llvm::DILocation::get(c, location.line, location.column, scope);
}

}  // namespace gradc::codegen
