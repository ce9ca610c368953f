// The key of equal code: a serialisation of a kernel without names and summary, with or without locations.
#include <bit>

#include "codegen/emit.h"
#include "support/check.h"

namespace gradc::codegen {
namespace {

class KeyWriter {
 public:
  explicit KeyWriter(bool locations) : locations_(locations) {}
  std::string run(const loop::Kernel& k) {
    if (locations_) {
      add(k.locations.size());
      for (const Location& l : k.locations) add(l);
    }
    const loop::Kernel::Predefined& p = k.predefined;
    for (const loop::Variable* v :
         {&p.lo, &p.hi, &p.rows, &p.panels, &p.row_offset, &p.seed_lo, &p.seed_hi, &p.step_lo, &p.step_hi})
      number(v->get());
    add(static_cast<uint64_t>(k.rows));
    add(k.buffers.size());
    for (const loop::Buffer& b : k.buffers) {
      number(b.get());
      add(static_cast<uint64_t>(b->scalar) | static_cast<uint64_t>(b->access) << 8);
      add(static_cast<uint64_t>(b->alignment));
    }
    body(k.body);
    return std::move(out_);
  }

 private:
  void add(uint64_t v) {  // little-endian base 128
    for (; v >= 0x80; v >>= 7) out_ += static_cast<char>(v | 0x80);
    out_ += static_cast<char>(v);
  }
  // Nodes are numbered in order of their first visit; a repeated node is written as its number.
  bool number(const void* p) {
    const auto [it, fresh] = numbers_.emplace(p, numbers_.size() + 1);
    add(fresh ? 0 : it->second);
    return fresh;
  }
  void add(const Location& written) {
    const Location l = shown_location(written);
    if (!l.valid() || !l.file) return add(uint64_t{0});
    add(uint64_t{l.line});
    add(uint64_t{l.column});
    const auto [it, fresh] = files_.emplace(*l.file, files_.size() + 1);
    add(fresh ? 0 : it->second);
    if (!fresh) return;
    add(l.file->size());
    out_ += *l.file;
  }
  void add(loop::Type t) { add(static_cast<uint64_t>(t.scalar) | static_cast<uint64_t>(t.lanes) << 4); }
  void add(const loop::Variable& v) {
    if (number(v.get())) {
      add(v->type);
      add(static_cast<uint64_t>(v->is_mutable));
    }
  }
  void add(const loop::Expr& e) {
    if (!e) return add(uint64_t{1} << 32);
    if (!number(e.get())) return;
    add(static_cast<uint64_t>(e->kind) | static_cast<uint64_t>(e->unary) << 8 |
        static_cast<uint64_t>(e->binary) << 16 | static_cast<uint64_t>(e->compare) << 24);
    add(e->type);
    add(std::bit_cast<uint64_t>(e->number));
    add(static_cast<uint64_t>(e->integer));
    if (e->variable) add(e->variable);
    if (e->buffer) number(e->buffer.get());
    add(e->args.size());
    for (const loop::Expr& a : e->args) add(a);
  }
  void body(const std::vector<loop::Stmt>& statements) {
    add(statements.size());
    for (const loop::Stmt& s : statements) {
      add(static_cast<uint64_t>(s->kind) | static_cast<uint64_t>(s->unroll) << 8);
      if (locations_) add(s->location);
      if (s->variable) add(s->variable);
      if (s->buffer) number(s->buffer.get());
      add(static_cast<uint64_t>(s->step));
      for (const loop::Expr* e : {&s->begin, &s->end, &s->value, &s->index, &s->mask, &s->condition}) add(*e);
      body(s->body);
      body(s->other);
    }
  }

  bool locations_;
  std::string out_;
  std::unordered_map<const void*, uint64_t> numbers_;
  std::map<std::string, uint64_t> files_;
};

}  // namespace

std::string kernel_key(const loop::Kernel& kernel, bool locations) {
  return KeyWriter(locations).run(kernel);
}

}  // namespace gradc::codegen
