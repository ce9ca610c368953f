// Writes C from the tables of a program.
#include "cli/c_header.h"

#include <fmt/format.h>

#include <cctype>
#include <regex>
#include <set>

#include "cli/session_header.h"
#include "runtime/data/batches.h"
#include "support/check.h"

namespace gradc::cli {

namespace {

const char* c_type(int32_t dtype) {
  switch (dtype) {
    case GRADC_F32: return "float";
    case GRADC_F64: return "double";
    case GRADC_I32: return "int32_t";
    default: return "uint8_t";
  }
}

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

struct Argument {
  std::string name, type, documentation;
};

// The arrays that an entry takes, by the names of the data's fields: "digits.image" is image, unless two are.
std::vector<Argument> arguments_of(const gradc_entry_info& entry) {
  std::vector<Argument> result;
  std::set<std::string> taken;
  for (int32_t i = 0; i < entry.input_count; ++i) {
    const gradc_input& in = entry.inputs[i];
    const std::string full = in.name;
    std::string name = c_identifier(full.substr(full.rfind('.') + 1));
    if (!taken.insert(name).second) name = c_identifier(full);
    taken.insert(name);
    result.push_back({name, c_type(in.dtype), runtime::type_text(in.dtype, in.rank, in.shape)});
  }
  return result;
}

// A function that passes the arrays of an entry to a session function.
std::string call_function(const std::string& identifier, const std::string& verb, const std::string& doc,
                          const gradc_entry_info& entry, const std::string& more_parameters,
                          const std::string& more_arguments) {
  std::string parameters, list, shapes;
  for (const Argument& a : arguments_of(entry)) {
    parameters += fmt::format("const {}* {}, ", a.type, a.name);
    list += fmt::format("{}{}", list.empty() ? "" : ", ", a.name);
    shapes += fmt::format("{}{}: rows x {}", shapes.empty() ? "" : "; ", a.name, a.documentation);
  }
  return fmt::format(R"(/* {doc}
 * {shapes}. */
static inline gradc_status {id}_{verb}(gradc_session* session, {parameters}int64_t rows, {more}) {{
  const void* inputs[] = {{{list}}};
  return gradc_session_{verb}(session, inputs, rows, {arguments});
}}

)",
                     fmt::arg("doc", doc), fmt::arg("shapes", shapes), fmt::arg("id", identifier),
                     fmt::arg("verb", verb), fmt::arg("parameters", parameters),
                     fmt::arg("more", more_parameters), fmt::arg("list", list),
                     fmt::arg("arguments", more_arguments));
}

}  // namespace

std::string c_identifier(const std::string& name) {
  static const std::set<std::string> keywords = {
      "auto",     "break",   "case",   "char",      "class",  "const",    "continue", "default",  "delete",
      "do",       "double",  "else",   "enum",      "extern", "float",    "for",      "goto",     "if",
      "inline",   "int",     "long",   "namespace", "new",    "operator", "private",  "public",   "register",
      "restrict", "return",  "short",  "signed",    "sizeof", "static",   "struct",   "switch",   "template",
      "this",     "typedef", "union",  "unsigned",  "using",  "virtual",  "void",     "volatile", "while",
      "session",  "rows",    "result", "output",    "inputs"};
  std::string text;
  for (char c : name) text += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  if (text.empty() || std::isdigit(static_cast<unsigned char>(text[0])) || keywords.count(text))
    text = "m_" + text;
  return text;
}

std::string c_header(const gradc_program& program, const std::string& identifier) {
  const std::string macro = upper(identifier);
  std::string text = fmt::format(
      "/* {}, compiled by gradc {}. Link with the object or library it was written with (and, for a static "
      "one,\n"
      " * with the C++ standard library: -lstdc++ -lm -pthread). */\n"
      "#ifndef {}_H\n#define {}_H\n\n",
      program.name, program.gradc_version, macro, macro);
  text += kSessionHeader;
  text += fmt::format(
      "\n#ifdef __cplusplus\nextern \"C\" {{\n#endif\n\nextern const gradc_image {}_image;\n\n", identifier);
  text += fmt::format("/* Rows of a training step at most. */\n#define {}_BATCH {}\n", macro, program.batch);
  const gradc_entry_info& widest = program.train_step.output_count ? program.train_step : program.eval;
  const auto arguments = arguments_of(widest);
  for (int32_t i = 0; i < widest.input_count; ++i) {
    const gradc_input& in = widest.inputs[i];
    text +=
        fmt::format("#define {}_{}_SIZE {} /* elements of one example */\n", macro,
                    upper(arguments[static_cast<size_t>(i)].name), runtime::element_count(in.rank, in.shape));
  }
  if (program.predict.output_count) {
    const gradc_output& out = program.predict.outputs[0];
    text += fmt::format("#define {}_PREDICT_SIZE {}\n", macro, runtime::element_count(out.rank, out.shape));
  }
  text += "\n/* Metrics in the order of gradc_result. */\n";
  int32_t metric = 0;
  std::string metrics;
  for (int32_t i = 1; i < program.eval.output_count; ++i)
    if (program.eval.outputs[i].role == GRADC_RESULT)
      metrics += fmt::format("  {}_METRIC_{} = {},\n", macro,
                             upper(c_identifier(program.eval.outputs[i].name)), metric++);
  if (!metrics.empty()) text += fmt::format("enum {{\n{}}};\n", metrics);
  text += fmt::format(R"(
/* See gradc_session_create(); free it with gradc_session_destroy(). */
static inline gradc_status {0}_create(int32_t threads, gradc_session** session) {{
  return gradc_session_create(&{0}_image, threads, session);
}}

)",
                      identifier);
  if (program.train_step.output_count)
    text += call_function(identifier, "step", "One update on at most " + macro + "_BATCH rows.",
                          program.train_step, "gradc_result* result", "result");
  text += call_function(identifier, "evaluate", "Loss and metrics of any number of rows.", program.eval,
                        "gradc_result* result", "result");
  if (program.predict.output_count) {
    const gradc_output& out = program.predict.outputs[0];
    const std::string size = fmt::format(
        "rows * {}", runtime::element_count(out.rank, out.shape) * runtime::dtype_bytes(out.dtype));
    text += call_function(identifier, "predict",
                          fmt::format("What the model says: output is rows x {}.",
                                      runtime::type_text(out.dtype, out.rank, out.shape)),
                          program.predict, fmt::format("{}* output", c_type(out.dtype)), "output, " + size);
  }
  std::string fields, fill;
  for (int32_t i = 0; i < program.symbol_count; ++i) {
    const gradc_symbol& s = program.symbols[i];
    if (s.kind == GRADC_SLOT || s.kind == GRADC_WEIGHTS) continue;
    fields += fmt::format("  {}* {}; /* {} */\n", c_type(s.dtype), c_identifier(s.name),
                          runtime::type_text(s.dtype, s.rank, s.shape));
    fill += fmt::format(
        "  if (status == GRADC_OK) status = gradc_session_tensor_data(session, \"{}\", &data, 0);\n"
        "  parameters->{} = ({}*)data;\n",
        s.name, c_identifier(s.name), c_type(s.dtype));
  }
  if (!fields.empty())
    text += fmt::format(R"(/* Where the parameters and states stand: to be read and written between calls. */
typedef struct {0}_parameters {{
{1}}} {0}_parameters;

static inline gradc_status {0}_get_parameters(gradc_session* session, {0}_parameters* parameters) {{
  gradc_status status = GRADC_OK;
  void* data = 0;
{2}  return status;
}}

)",
                        identifier, fields, fill);
  return text + "#ifdef __cplusplus\n}\n#endif\n#endif\n";
}

std::vector<std::string> exported_symbols(const std::string& identifier) {
  // Every function that the session header declares.
  std::set<std::string> names;
  static const std::regex declared(R"(GRADC_API[^;(]*?(gradc_[a-z_]+)\()");
  const std::string header = kSessionHeader;
  for (auto it = std::sregex_iterator(header.begin(), header.end(), declared); it != std::sregex_iterator();
       ++it)
    names.insert((*it)[1]);
  std::vector<std::string> result(names.begin(), names.end());
  result.push_back(identifier + "_image");
  return result;
}

}  // namespace gradc::cli
