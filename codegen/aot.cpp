// Objects and archives for linking.
#include "codegen/aot.h"

#include <algorithm>
#include <map>

#include "codegen/module.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::codegen {
namespace {

// The structs of runtime/abi.h as constants. Field order and types are the header's; sizes are checked.
class Tables {
 public:
  explicit Tables(llvm::Module& module)
      : module_(module),
        c_(module.getContext()),
        ptr_(llvm::PointerType::getUnqual(c_)),
        i32_(llvm::Type::getInt32Ty(c_)),
        i64_(llvm::Type::getInt64Ty(c_)) {}

  llvm::Constant* program(const gradc_program& p, const std::string& prefix) {
    std::vector<llvm::Constant*> symbols;
    for (int32_t i = 0; i < p.symbol_count; ++i) {
      const gradc_symbol& s = p.symbols[i];
      symbols.push_back(record({text(s.name), int32(s.kind), int32(s.dtype), int32(s.rank),
                                shape(s.rank, s.shape), int64(s.offset)},
                               sizeof s));
    }
    return constant(
        record({int32(static_cast<int32_t>(p.abi_version)), text(p.gradc_version), text(p.target),
                text(p.source), text(p.name), int64(p.batch), int64(p.parameter_bytes), int32(p.symbol_count),
                array(symbols), entry(p.init, prefix + "init"), entry(p.train_step, prefix + "train_step"),
                entry(p.eval, prefix + "eval"), entry(p.predict, prefix + "predict"), text(p.experiment_json),
                entry(p.update, prefix + "update"), int64(p.pieces)},
               sizeof p),
        "program");
  }

  llvm::Constant* bundle(const std::vector<llvm::Constant*>& programs,
                         const std::vector<llvm::Constant*>& features, std::string_view weights) {
    return record({int32(GRADC_ABI_VERSION), int32(static_cast<int32_t>(programs.size())), array(programs),
                   array(features), bytes(weights), int64(static_cast<int64_t>(weights.size()))},
                  sizeof(gradc_image));
  }

  // Equal texts, as in programs for several targets, are stored once.
  llvm::Constant* text(const char* t) {
    if (!t) return null();
    llvm::GlobalVariable*& made = texts_[t];
    if (!made) made = constant(llvm::ConstantDataArray::getString(c_, t), "text");
    return made;
  }

 private:
  llvm::Constant* entry(const gradc_entry_info& e, const std::string& symbol) {
    llvm::Constant* run = null();
    if (e.output_count > 0 || e.arena_bytes > 0 || e.max_threads > 0) {  // the entry exists
      auto* type = llvm::FunctionType::get(i32_, {ptr_, i32_, i32_}, false);
      llvm::Function* f = module_.getFunction(symbol);
      if (!f) f = llvm::Function::Create(type, llvm::GlobalValue::ExternalLinkage, symbol, module_);
      f->setVisibility(llvm::GlobalValue::HiddenVisibility);
      run = f;
    }
    std::vector<llvm::Constant*> inputs, outputs;
    for (int32_t i = 0; i < e.input_count; ++i) {
      const gradc_input& in = e.inputs[i];
      std::vector<llvm::Constant*> ranges;
      for (int32_t k = 0; k < in.range_count; ++k) {
        const gradc_index_range& r = in.ranges[k];
        ranges.push_back(record({int64(r.first), int64(r.count), int64(r.extent), text(r.use)}, sizeof r));
      }
      inputs.push_back(record({text(in.name), int32(in.dtype), int32(in.rank), shape(in.rank, in.shape),
                               int32(in.range_count), array(ranges)},
                              sizeof in));
    }
    for (int32_t i = 0; i < e.output_count; ++i) {
      const gradc_output& out = e.outputs[i];
      outputs.push_back(record({text(out.name), int32(out.dtype), int32(out.batched), int32(out.rank),
                                shape(out.rank, out.shape), int32(out.role), int32(out.divisor)},
                               sizeof out));
    }
    return record({run, int64(e.arena_bytes), int32(e.input_count), array(inputs), int32(e.output_count),
                   array(outputs), int32(e.max_threads), int32(e.panels), int64(e.local_bytes),
                   int64(e.scratch_bytes), null(), null()},
                  sizeof e);
  }

  llvm::Constant* record(std::vector<llvm::Constant*> fields, size_t size) {
    llvm::Constant* made = llvm::ConstantStruct::getAnon(c_, fields);
    const uint64_t bytes = module_.getDataLayout().getTypeAllocSize(made->getType());
    GRADC_CHECK(bytes == size, "a record of the ABI has {} bytes, its table {}", size, bytes);
    return made;
  }

  // A pointer to the elements; null when there are none.
  llvm::Constant* array(const std::vector<llvm::Constant*>& elements) {
    if (elements.empty()) return null();
    return constant(
        llvm::ConstantArray::get(llvm::ArrayType::get(elements[0]->getType(), elements.size()), elements),
        "table");
  }

  llvm::Constant* shape(int32_t rank, const int64_t* extents) {
    if (rank == 0) return null();
    const std::vector<uint64_t> values(extents, extents + rank);
    return constant(llvm::ConstantDataArray::get(c_, values), "shape");
  }

  llvm::Constant* bytes(std::string_view data) {
    if (data.empty()) return null();
    llvm::Constant* made =
        llvm::ConstantDataArray::getString(c_, llvm::StringRef(data.data(), data.size()), /*AddNull=*/false);
    auto* global = constant(made, "weights");
    global->setAlignment(llvm::Align(64));
    return global;
  }

  llvm::GlobalVariable* constant(llvm::Constant* value, const char* name) {
    auto* global = new llvm::GlobalVariable(module_, value->getType(), true,
                                            llvm::GlobalValue::PrivateLinkage, value, name);
    return global;
  }

  llvm::Constant* null() { return llvm::ConstantPointerNull::get(ptr_); }
  llvm::Constant* int32(int32_t v) { return llvm::ConstantInt::getSigned(i32_, v); }
  llvm::Constant* int64(int64_t v) { return llvm::ConstantInt::getSigned(i64_, v); }

  llvm::Module& module_;
  llvm::LLVMContext& c_;
  llvm::PointerType* ptr_;
  llvm::IntegerType *i32_, *i64_;
  std::map<std::string, llvm::GlobalVariable*> texts_;
};

std::string bytes_of(const Object& object) { return {object->getBufferStart(), object->getBufferSize()}; }

}  // namespace

std::vector<ObjectFile> emit_bundle(const std::vector<BundleProgram>& programs, const std::string& name,
                                    const std::string& symbol, std::string_view weights,
                                    const CodegenOptions& options, ObjectCache* cache) {
  const LlvmScope scope;
  GRADC_CHECK(!programs.empty(), "a bundle without a program");
  std::vector<ObjectFile> objects;
  std::vector<std::string> prefixes;
  for (const BundleProgram& p : programs) {
    CodegenOptions own = options;
    own.symbol_prefix = fmt::format("{}.{}.", symbol, p.target.name);
    prefixes.push_back(own.symbol_prefix);
    const Plan plan = make_plan(p.programs, own);
    for (const Object& object : compile_objects(plan, p.target, own, cache))
      objects.push_back({fmt::format("{}.{}.{}.o", name, p.target.name, objects.size()), bytes_of(object)});
  }
  const auto machine = make_machine(programs.back().target);
  llvm::LLVMContext context;
  llvm::Module module(name, context);
  module.setTargetTriple(programs.back().target.triple);
  module.setDataLayout(machine->createDataLayout());
  Tables tables(module);
  std::vector<llvm::Constant*> list, features;
  for (size_t i = 0; i < programs.size(); ++i) {
    list.push_back(tables.program(*programs[i].tables, prefixes[i]));
    features.push_back(tables.text(programs[i].target.required.c_str()));
  }
  llvm::Constant* bundle = tables.bundle(list, features, weights);
  new llvm::GlobalVariable(module, bundle->getType(), true, llvm::GlobalValue::ExternalLinkage, bundle,
                           symbol);
  if (options.verify) {
    std::string text;
    llvm::raw_string_ostream out(text);
    GRADC_CHECK(!llvm::verifyModule(module, &out), "LLVM's verifier, tables: {}", out.str());
  }
  const Object object = expect(llvm::orc::SimpleCompiler(*machine)(module), "writing tables");
  objects.push_back({name + ".tables.o", bytes_of(object)});
  return objects;
}

std::string make_archive(const std::vector<ObjectFile>& objects, const std::vector<std::string>& libraries) {
  const LlvmScope scope;
  std::vector<llvm::NewArchiveMember> members;
  std::vector<std::unique_ptr<llvm::MemoryBuffer>> kept;
  for (const ObjectFile& object : objects)
    members.emplace_back(llvm::MemoryBufferRef(object.bytes, object.name));
  std::vector<std::unique_ptr<llvm::object::Archive>> archives;
  for (const std::string& path : libraries) {
    auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
    if (!buffer)
      throw RunError(kExitRunFailed,
                     fmt::format("cannot read the library '{}': {}", path, buffer.getError().message()));
    kept.push_back(std::move(*buffer));
    auto archive = llvm::object::Archive::create(kept.back()->getMemBufferRef());
    if (!archive)
      throw RunError(kExitRunFailed,
                     fmt::format("'{}' is no static library: {}", path, message(archive.takeError())));
    archives.push_back(std::move(*archive));
    llvm::Error error = llvm::Error::success();
    for (const llvm::object::Archive::Child& child : archives.back()->children(error)) {
      auto member = llvm::NewArchiveMember::getOldMember(child, /*Deterministic=*/true);
      if (!member) throw RunError(kExitRunFailed, fmt::format("'{}': {}", path, message(member.takeError())));
      members.push_back(std::move(*member));
    }
    if (error) throw RunError(kExitRunFailed, fmt::format("'{}': {}", path, message(std::move(error))));
  }
  const auto archive = expect(
      llvm::writeArchiveToBuffer(members, llvm::SymtabWritingMode::NormalSymtab, llvm::object::Archive::K_GNU,
                                 /*Deterministic=*/true, /*Thin=*/false),
      "writing a static library");
  return {archive->getBufferStart(), archive->getBufferSize()};
}

}  // namespace gradc::codegen
