// The block of a data declaration: fields, splits, order.
#include "frontend/data_block.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "frontend/error_codes.h"
#include "support/diagnostic.h"

namespace gradc::frontend {

namespace {

// Evaluates the file name of a field; false after an error.
bool file_of(Evaluator& e, const Expr& written, const std::string& field, std::string& out) {
  const Value v = e.evaluate(written);
  if (v.poisoned()) return false;
  if (!v.is(ValueKind::string) || v.text.empty()) {
    e.error(codes::wrong_kind, written.span,
            fmt::format("the field `{}` comes from a file, and needs its name, not {}", field, describe(v)))
        .expect("the name of a file", describe(v))
        .helps.push_back(fmt::format("as in `field {}: f32[3, 64, 64] = \"images.npy\"`", field));
    return false;
  }
  out = v.text;
  return true;
}

// Evaluates the columns of a field: a name, a number, a list or a range of them; false after an error.
bool columns_of(Evaluator& e, const Expr& written, bool header, DataField& field) {
  const Value v = e.evaluate(written);
  if (v.poisoned()) return false;
  List list;
  if (v.is(ValueKind::list)) {
    list = *v.list;
  } else if (v.is(ValueKind::range)) {
    if (v.end - v.integer > kMaxList) {
      e.error(codes::limit, written.span, fmt::format("more than {} columns", kMaxList));
      return false;
    }
    for (int64_t i = v.integer; i < v.end; ++i) list.push_back(Value::of(i));
  } else {
    list.push_back(v);
  }
  for (const Value& entry : list) {
    if (entry.is(ValueKind::string) && header) {
      field.columns.push_back(entry.text);
    } else if (entry.is(ValueKind::integer) && entry.integer >= 0) {
      field.numbers.push_back(entry.integer);
    } else {
      e.error(codes::wrong_kind, written.span,
              fmt::format("a column of `{}` is a {}number from 0, not {}", field.name,
                          header ? "name or a " : "", describe(entry)))
          .expect(header ? "a name or a number from 0" : "a number from 0", describe(entry))
          .helps.push_back(header ? "as in `= \"height\"`, `= [\"height\", \"width\"]` or `= 1..5`"
                                  : "as in `= 0` or `= 1..5`; a file with `header=false` has no names");
      return false;
    }
  }
  if (!field.columns.empty() && !field.numbers.empty()) {
    e.error(codes::wrong_kind, written.span,
            fmt::format("the columns of `{}` are names or numbers, not both", field.name));
    return false;
  }
  int64_t elements = 1;
  for (const int64_t extent : field.shape) elements *= extent;
  const auto found = static_cast<int64_t>(list.size());
  if (found == elements) return true;
  e.error(codes::shapes, written.span,
          fmt::format("`{}` holds {} number{}, but {} column{} named", field.name, elements,
                      elements == 1 ? "" : "s", found, found == 1 ? " is" : "s are"))
      .expect(fmt::format("{} columns", elements), std::to_string(found));
  return false;
}

}  // namespace

bool data_fields(Evaluator& e, const DataSyntax& d, const SourceKind& kind, DataRecord& record) {
  const size_t errors = e.diagnostics().count();
  if (!kind.declares_fields) {
    if (d.fields.empty()) return true;
    e.error(codes::unknown_source, d.fields[0].span,
            fmt::format("`{}` has its own fields and takes no `field`", kind.name))
        .helps.push_back("`npy`, `csv` and `arrays` have fields that the model file declares");
    return false;
  }
  if (d.fields.empty()) {
    e.error(codes::missing_argument, d.source->span,
            fmt::format("`{}` needs to know what fields to read", kind.name))
        .helps.push_back(
            record.source == "arrays" ? "as in `arrays(classes=3) { field x: f32[2]; field label: i32 }`"
            : record.source == "csv"
                ? "as in `csv(\"train.csv\") { field x: f32[2] = [\"height\", \"width\"]; field label: "
                  "i32 = \"kind\" }`"
                : "as in `npy() { field image: f32[3, 64, 64] = \"images.npy\"; field label: i32 = "
                  "\"labels.npy\" }`");
    return false;
  }
  const bool csv = record.source == "csv";
  if (csv && std::get<std::string>(record.options.at("separator")).size() != 1)
    e.error(codes::bad_value, d.source->span, "`separator` is one character, as in \",\" or \";\"");
  const bool* written = csv ? std::get_if<bool>(&record.options.at("header")) : nullptr;
  const bool header = csv && (!written || *written);
  const FieldSyntax* first = d.fields.data();
  for (const FieldSyntax& f : d.fields) {
    DataField field{.name = f.name, .is_float = f.type.dtype == "f32"};
    for (const DataField& other : record.fields)
      if (other.name == f.name)
        e.error(codes::duplicate, f.name_span, fmt::format("there is a field `{}` already", f.name));
    if (f.type.dtype != "f32" && f.type.dtype != "i32") {
      e.error(codes::wrong_kind, f.type.span, fmt::format("a field is f32 or i32, not `{}`", f.type.dtype))
          .expect("f32 or i32", f.type.dtype);
      continue;
    }
    if (!e.to_shape(f.type.dims, fmt::format("the field `{}`", f.name), field.shape)) continue;
    if (record.source == "arrays") {
      if (f.from)
        e.error(codes::unknown_source, f.from->span,
                fmt::format("`arrays` reads no files: the program that embeds gradc gives `{}`", f.name))
            .helps.push_back(fmt::format("write `field {}: {}` alone, or use `npy` or `csv`", f.name,
                                         f.type.dims.empty() ? f.type.dtype : f.type.dtype + "[..]"));
    } else if (!f.from) {
      e.error(codes::missing_argument, f.span,
              fmt::format("the field `{}` does not say where it comes from", f.name))
          .helps.push_back(csv ? "as in `field label: i32 = \"kind\"`, a column of the file"
                               : "as in `field label: i32 = \"labels.npy\"`");
    } else if (csv) {
      columns_of(e, *f.from, header, field);
      if (f.test)
        e.error(codes::unknown_source, f.test->span, "the columns of the test file are those of the other")
            .helps.push_back("the file is named at the source: `csv(\"train.csv\", test=\"test.csv\")`");
    } else {
      file_of(e, *f.from, f.name, field.train);
      if (f.test) file_of(e, *f.test, f.name, field.test);
      if (!f.test != !first->test)
        e.error(codes::missing_argument, f.test ? first->span : f.span,
                fmt::format("the field `{}` has no file for the split `test`, but `{}` has",
                            f.test ? first->name : f.name, f.test ? f.name : first->name))
            .helps.push_back("as in `field label: i32 = \"labels.npy\" test \"test_labels.npy\"`");
    }
    const bool label = field.name == "label" && !field.is_float && field.shape.empty();
    if (label) field.count = std::get<int64_t>(record.options.at("classes"));
    record.fields.push_back(std::move(field));
  }
  return e.diagnostics().count() == errors;
}

namespace {

// How many of `size` examples a split takes; empty where that is not 1 to size - 1. Must agree with
// runtime/data/dataset.cpp.
std::optional<int64_t> taken(const DataSplit& split, int64_t size) {
  int64_t count = split.count;
  if (split.folds > 0) count = size < split.folds ? 0 : (size - split.fold) / split.folds + 1;
  if (split.fraction > 0) count = std::llround(split.fraction * static_cast<double>(size));
  if (count < 1 || count >= size) return {};
  return count;
}

// The number of examples, the share or the fold of a split; false after an error.
bool split_size(Evaluator& e, const SplitSyntax& s, DataSplit& split) {
  const Value v = e.evaluate(*s.count);
  if (s.folds) {
    if (!e.to_integer(v, s.count->span, "the fold", split.fold) ||
        !e.to_integer(e.evaluate(*s.folds), s.folds->span, "the number of folds", split.folds))
      return false;
    if (split.folds < 2)
      e.error(codes::bad_value, s.folds->span, fmt::format("there are at least 2 folds, not {}", split.folds))
          .expect("at least 2", std::to_string(split.folds));
    else if (split.fold < 1 || split.fold > split.folds)
      e.error(codes::bad_value, s.count->span,
              fmt::format("the folds are 1 to {}, not {}", split.folds, split.fold))
          .expect(fmt::format("1 to {}", split.folds), std::to_string(split.fold));
    return split.folds >= 2 && split.fold >= 1 && split.fold <= split.folds;
  }
  if (v.is(ValueKind::number)) {
    split.fraction = v.number;
    if (v.number > 0 && v.number < 1) return true;
    e.error(codes::bad_value, s.count->span,
            fmt::format("the share of a split is between 0 and 1, not {}", print(v)))
        .expect("a number between 0 and 1", print(v))
        .helps.push_back("a number of examples is written without a point: `split val = 5000 of train`");
    return false;
  }
  if (!e.to_integer(v, s.count->span, "the number of examples", split.count)) return false;
  if (split.count >= 1) return true;
  e.error(codes::bad_value, s.count->span,
          fmt::format("a split has at least one example, not {}", split.count))
      .expect("at least 1", std::to_string(split.count));
  return false;
}

// The splits that the source itself has.
std::vector<std::string> splits_of_source(const DataRecord& record) {
  const auto given = [&](const char* option) {
    const auto it = record.options.find(option);
    return it != record.options.end() && !std::get<std::string>(it->second).empty();
  };
  bool test = true;
  if (record.source == "idx") test = given("test_images");
  if (record.source == "csv") test = given("test");
  if (record.source == "npy") test = !record.fields.empty() && !record.fields[0].test.empty();
  return test ? std::vector<std::string>{"train", "test"} : std::vector<std::string>{"train"};
}

}  // namespace

void data_splits(Evaluator& e, const DataSyntax& d, DataRecord& record) {
  std::map<std::string, int64_t> known;  // examples left in the splits whose size is an option
  for (const char* split : {"train", "test"})
    if (const auto it = record.options.find(split);
        it != record.options.end() && std::holds_alternative<int64_t>(it->second))
      known[split] = std::get<int64_t>(it->second);
  std::vector<std::string> splits = splits_of_source(record);
  for (const SplitSyntax& s : d.splits) {
    DataSplit split{.name = s.name, .from = s.from};
    const bool sized = split_size(e, s, split);
    if (std::find(splits.begin(), splits.end(), s.from) == splits.end()) {
      Diagnostic& error =
          e.error(codes::bad_value, s.from_span, fmt::format("there is no split `{}` to take from", s.from));
      error.choose(s.from, splits, "the splits are");
    }
    if (std::find(splits.begin(), splits.end(), s.name) != splits.end())
      e.error(codes::duplicate, s.name_span, fmt::format("there is a split `{}` already", s.name));
    if (const auto from = known.find(s.from); from != known.end() && sized) {
      if (const auto count = taken(split, from->second)) {
        from->second -= *count;
        known.emplace(s.name, *count);
      } else if (split.fraction > 0 || split.folds > 0) {
        e.error(codes::bad_value, s.count->span,
                fmt::format("`{}` has {} examples, too few for this", s.from, from->second));
      } else {
        e.error(codes::bad_value, s.count->span,
                fmt::format("{} examples of `{}` leave none: it has {}", split.count, s.from, from->second))
            .expect(fmt::format("fewer than {}", from->second), std::to_string(split.count));
      }
    }
    splits.push_back(s.name);
    record.splits.push_back(std::move(split));
  }
}

void data_order(Evaluator& e, const DataSyntax& d, const DataSource& data, DataRecord& record) {
  for (size_t i = 1; i < d.curricula.size(); ++i)
    e.error(codes::experiment_part, d.curricula[i].span, "a data set has one `curriculum`")
        .related.push_back({d.curricula[0].span, "the first is here"});
  for (size_t i = 1; i < d.bootstraps.size(); ++i)
    e.error(codes::experiment_part, d.bootstraps[i]->span, "a data set has one `bootstrap`")
        .related.push_back({d.bootstraps[0]->span, "the first is here"});
  if (!d.bootstraps.empty()) {
    int64_t seed = 0;
    if (e.to_integer(e.evaluate(*d.bootstraps[0]), d.bootstraps[0]->span, "the seed of `bootstrap`", seed))
      record.bootstrap = seed;
  }
  if (d.curricula.empty()) return;
  const CurriculumSyntax& c = d.curricula[0];
  const auto field = data.fields.find(c.field);
  if (field == data.fields.end()) {
    std::vector<std::string> names;
    for (const auto& [name, type] : data.fields) names.push_back(name);
    Diagnostic& error = e.error(codes::unknown_field, c.field_span,
                                fmt::format("the data `{}` have no field `{}`", d.name, c.field));
    error.choose(c.field, names, "there are");
  } else if (!field->second.shape.empty()) {
    e.error(
         codes::shapes, c.field_span,
         fmt::format("a score is one number an example, and `{}` is {}", c.field, user_type(field->second)))
        .expect("one number an example", user_type(field->second));
  }
  if (!e.to_integer(e.evaluate(*c.epochs), c.epochs->span, "the number of epochs", record.curriculum_epochs))
    return;
  if (record.curriculum_epochs < 1)
    e.error(codes::bad_value, c.epochs->span,
            fmt::format("a curriculum takes at least 1 epoch, not {}", record.curriculum_epochs))
        .expect("at least 1", std::to_string(record.curriculum_epochs));
  record.curriculum = c.field;
}

}  // namespace gradc::frontend
