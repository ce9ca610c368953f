// Settings with their --set values, and the data declaration.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "frontend/data_block.h"
#include "frontend/data_methods.h"
#include "frontend/error_codes.h"
#include "frontend/parser.h"
#include "frontend/train_statements.h"
#include "support/data_limits.h"

namespace gradc::frontend {

namespace {

constexpr int64_t kMaxBatch = 65536;

bool has_tensor(const Value& v) {
  if (v.is(ValueKind::list)) return std::any_of(v.list->begin(), v.list->end(), has_tensor);
  return v.is_tensor();
}

const char* kind_name(const Value& v) {
  switch (v.kind) {
    case ValueKind::boolean: return "true or false";
    case ValueKind::integer: return "an integer";
    case ValueKind::number: return "a number";
    case ValueKind::string: return "a string";
    case ValueKind::list: return "a list";
    default: return "a value of the same kind";
  }
}

// The value of --set name=text, of the kind of the default; poison after an error.
Value overridden(Evaluator& e, SourceManager& sources, const SettingSyntax& setting, const Value& standard,
                 const std::string& text) {
  if (standard.is(ValueKind::string)) return Value::of(text);  // verbatim: paths need no quotes
  const uint32_t file = sources.add("--set " + setting.name, text);
  Diagnostics own(sources);
  const ExprPtr parsed = parse_expression(sources, file, own);
  Value v;
  if (parsed && (parsed->kind != ExprKind::name || standard.is(ValueKind::definition)))
    v = e.evaluate(*parsed);
  if (v.is(ValueKind::integer) && standard.is(ValueKind::number)) v = Value::of(v.as_number());
  if (!v.poisoned() && v.kind == standard.kind && !has_tensor(v)) return v;
  e.error(codes::bad_setting, setting.name_span,
          fmt::format("--set {}={} does not fit this setting", setting.name, text),
          fmt::format("its default is {}, so it takes {}", describe(standard), kind_name(standard)))
      .expect(kind_name(standard), text);
  return {};
}

}  // namespace

bool evaluate_settings(Evaluator& e, SourceManager& sources,
                       const std::map<std::string, std::string>& overrides) {
  const size_t errors = e.diagnostics().count();
  std::vector<std::string> names;
  for (const SettingSyntax& s : e.program().user.settings) names.push_back(s.name);
  for (const auto& [name, text] : overrides) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    Diagnostic& d = e.error(codes::unknown_setting, {},
                            fmt::format("--set {}={}: this file has no setting `{}`", name, text, name));
    if (!d.suggest(name, names))
      d.helps.push_back(names.empty() ? "a setting is declared as `set NAME = VALUE`"
                                      : fmt::format("its settings are {}", fmt::join(names, ", ")));
  }
  for (const SettingSyntax& s : e.program().user.settings) {
    Value v = e.evaluate(*s.value);
    if (has_tensor(v)) {
      e.must_be(v, s.value->span, fmt::format("the setting `{}`", s.name), "known when compiling");
      continue;
    }
    if (const auto it = overrides.find(s.name); it != overrides.end() && !v.poisoned())
      v = overridden(e, sources, s, v, it->second);
    if (!v.poisoned()) e.settings[s.name] = std::move(v);
  }
  return e.diagnostics().count() == errors;
}

namespace {

// Options that every source has.
void common_option(Evaluator& e, const std::string& name, const Value& v, Span span, DataRecord& record) {
  if (name == "batch") {
    if (!e.to_integer(v, span, "`batch`", record.batch)) return;
    if (record.batch < 1 || record.batch > kMaxBatch)
      e.error(codes::bad_value, span,
              fmt::format("the batch must have 1 to {} examples, not {}", kMaxBatch, record.batch))
          .expect(fmt::format("1 to {}", kMaxBatch), std::to_string(record.batch));
    return;
  }
  if (v.is(ValueKind::string) && (v.text == "keep" || v.text == "drop"))
    record.drop_last = v.text == "drop";
  else
    e.error(codes::bad_value, span, fmt::format("`last` is keep or drop, not {}", describe(v)))
        .expect("keep or drop", describe(v))
        .helps.push_back("`last=drop` leaves the last, partial batch of an epoch out");
}

// Whether an integer of an option, which the message calls `what`, is within its bounds; if not, says so.
bool in_bounds(Evaluator& e, const SourceOption& o, const std::string& what, int64_t i, Span span) {
  if (i >= o.low && i <= o.high) return true;
  const bool less = i < o.low;
  e.error(codes::bad_value, span,
          fmt::format("{} must be at {} {}, not {}", what, less ? "least" : "most", less ? o.low : o.high, i))
      .expect(fmt::format("at {} {}", less ? "least" : "most", less ? o.low : o.high), std::to_string(i));
  return false;
}

void integers_option(Evaluator& e, const SourceOption& o, const Value& v, Span span, DataRecord& record) {
  const std::string what = fmt::format("`{}`", o.name);
  if (v.is(ValueKind::integer)) {
    e.must_be(v, span, what, "a list of integers")
        .helps.push_back(fmt::format("a list of one is written `{}=[{}]`", o.name, v.integer));
    return;
  }
  std::vector<int64_t> list;
  if (!e.to_integers(v, span, what, list)) return;
  if (list.empty() || list.size() > static_cast<size_t>(o.most)) {
    e.error(codes::bad_value, span,
            fmt::format("{} must hold 1 to {} integers, not {}", what, o.most, list.size()))
        .expect(fmt::format("1 to {} integers", o.most), std::to_string(list.size()));
    return;
  }
  for (const int64_t i : list)
    if (!in_bounds(e, o, "each entry of " + what, i, span)) return;
  record.options[o.name] = std::move(list);
}

void source_option(Evaluator& e, const SourceOption& o, const Value& v, Span span, DataRecord& record) {
  if (o.kind == SourceOption::Kind::integers) {
    integers_option(e, o, v, span, record);
    return;
  }
  if (o.kind == SourceOption::Kind::integer) {
    int64_t i = 0;
    const std::string what = fmt::format("`{}`", o.name);
    if (!e.to_integer(v, span, what, i) || !in_bounds(e, o, what, i, span)) return;
    record.options[o.name] = i;
    return;
  }
  if (o.kind == SourceOption::Kind::boolean) {
    bool b = false;
    if (e.to_boolean(v, span, fmt::format("`{}`", o.name), b)) record.options[o.name] = b;
    return;
  }
  if (!v.is(ValueKind::string)) {
    e.must_be(v, span, fmt::format("`{}`", o.name), "a string");
    return;
  }
  if (v.text.empty() && o.required) e.error(codes::bad_value, span, fmt::format("`{}` is empty", o.name));
  record.options[o.name] = v.text;
}

// Reports splits of `random` that are too large for memory; `spans` has the spans of the options that are
// written.
void check_random_size(Evaluator& e, const DataRecord& record, const std::map<std::string, Span>& spans,
                       Span source) {
  const auto span_of = [&](const char* option) {
    const auto it = spans.find(option);
    return it == spans.end() ? source : it->second;
  };
  constexpr int64_t kGib = kMaxRandomBytes >> 30;
  const auto& shape = std::get<std::vector<int64_t>>(record.options.at("shape"));
  const std::optional<int64_t> each = random_example_bytes(shape);
  if (!each) {
    e.error(
         codes::limit, span_of("shape"),
         fmt::format("one example of shape {} takes more than {} GiB, the limit of a whole split of `random`",
                     to_string(shape), kGib))
        .helps.push_back("choose a smaller `shape`");
    return;
  }
  for (const char* split : {"train", "test"}) {
    const int64_t count = std::get<int64_t>(record.options.at(split));
    if (count <= kMaxRandomBytes / *each) continue;
    e.error(codes::limit, span_of(split),
            fmt::format("{} examples of {} bytes are beyond the limit of {} GiB for a split of `random`",
                        count, *each, kGib))
        .helps.push_back(fmt::format("at most {} of shape {} fit: `{}={}`", kMaxRandomBytes / *each,
                                     to_string(shape), split, kMaxRandomBytes / *each));
  }
}

// A name after last= is a word; everything else is an expression.
Value option_value(Evaluator& e, const Argument& a) {
  if (a.name == "last" && a.value->kind == ExprKind::name) return Value::of(a.value->text);
  return e.evaluate(*a.value);
}

// The kind of a source; null after an error.
const SourceKind* source_kind(Evaluator& e, const Expr& source) {
  std::vector<std::string> names;
  for (const SourceKind& k : source_kinds()) {
    names.emplace_back(k.name);
    if (source.text == k.name && source.qualifier.empty()) return &k;
  }
  e.error(codes::unknown_source, source.text_span, fmt::format("there is no data source `{}`", source.text))
      .choose(source.text, names, "the sources are");
  return nullptr;
}

// The options of a source, with their defaults; returns the locations of those that are written.
std::map<std::string, Span> source_options(Evaluator& e, const SourceKind& kind, const Expr& source,
                                           DataRecord& record) {
  std::map<std::string, Span> spans;  // of the options that are written
  size_t next = 0;
  for (const Argument& a : source.arguments) {
    const bool positional = a.name.empty();
    const Span span = a.value->span;
    if (positional && (next >= kind.options.size() || !kind.options[next].required)) {
      e.error(codes::extra_argument, span, fmt::format("`{}` takes its options by name", kind.name));
      continue;
    }
    const std::string name = positional ? kind.options[next++].name : a.name;
    const Value v = option_value(e, a);
    if (!spans.emplace(name, span).second) {
      e.error(codes::extra_argument, positional ? span : a.name_span,
              fmt::format("`{}` is given `{}` twice", kind.name, name));
      continue;
    }
    if (v.poisoned()) continue;
    if (name == "batch" || name == "last") {
      common_option(e, name, v, span, record);
      continue;
    }
    const auto option = std::find_if(kind.options.begin(), kind.options.end(),
                                     [&](const SourceOption& o) { return name == o.name; });
    if (option != kind.options.end()) {
      source_option(e, *option, v, span, record);
      continue;
    }
    std::vector<std::string> known = {"batch", "last"};
    for (const SourceOption& o : kind.options) known.emplace_back(o.name);
    Diagnostic& error =
        e.error(codes::unknown_source, a.name_span, fmt::format("`{}` has no option `{}`", kind.name, name));
    error.choose(name, known, "its options are");
  }
  for (const SourceOption& o : kind.options) {
    if (spans.count(o.name)) continue;
    if (o.required)
      e.error(codes::missing_argument, source.span,
              fmt::format("`{}` needs its option `{}`: {}", kind.name, o.name, o.doc));
    else
      record.options[o.name] = o.default_value;
  }
  return spans;
}

}  // namespace

bool evaluate_data(Evaluator& e, DataRecord& record) {
  const size_t errors = e.diagnostics().count();
  const std::vector<DataSyntax>& all = e.program().user.data;
  if (all.empty()) {
    const Span start{e.program().user.file, 0, 0};
    e.error(codes::experiment_part, start, "this file declares no data")
        .helps.push_back("as in `data digits = synthetic_digits(batch=64)`");
    return false;
  }
  for (size_t i = 1; i < all.size(); ++i)
    e.error(codes::experiment_part, all[i].name_span, "a file declares one `data`")
        .related.push_back({all[0].name_span, "the first is here"});
  const DataSyntax& d = all[0];
  const Expr& source = *d.source;
  const SourceKind* kind = source_kind(e, source);
  if (!kind) return false;
  record.name = d.name;
  record.source = kind->name;
  record.batch = 64;
  const std::map<std::string, Span> spans = source_options(e, *kind, source, record);
  if (e.diagnostics().count() != errors) return false;
  if (record.source == "folder" && std::get<int64_t>(record.options.at("channels")) == 2)
    e.error(codes::bad_value, spans.at("channels"), "images have 1 or 3 `channels`, not 2")
        .expect("1 or 3", "2");
  if (record.source == "random") check_random_size(e, record, spans, source.span);
  if (e.diagnostics().count() != errors) return false;
  if (!data_fields(e, d, *kind, record)) return false;
  if (kind->fields) record.fields = kind->fields(record);
  DataSource result{d.name, record, {}};
  for (const DataField& f : record.fields)
    result.fields[f.name] = Type{f.is_float ? DType::f32 : DType::i32, true, f.shape};
  for (const auto& [name, type] : result.fields) {
    Shape ignored;
    if (!e.to_shape(Value::of_shape(type.shape), source.span, fmt::format("the field `{}`", name), ignored))
      return false;
  }
  data_splits(e, d, record);
  data_order(e, d, result, record);
  result.record = record;
  data_methods(e, d, result);
  record = result.record;
  e.data[d.name] = std::move(result);
  // Only the compiler needs these options: the reader takes an image's size from the IDX file.
  for (const char* name : {"channels", "height", "width"})
    if (record.source == "idx") record.options.erase(name);
  return e.diagnostics().count() == errors;
}

}  // namespace gradc::frontend
