// Every data source that needs no file: what its record says of the fields is what is loaded.
#include <gtest/gtest.h>

#include <algorithm>

#include "compiler/compile.h"
#include "frontend/data_sources.h"
#include "runtime/data/dataset.h"

namespace gradc::test::data_sources_test {
namespace {

TEST(DataSources, LoadWhatTheirRecordSays) {
  int loaded = 0;
  for (const frontend::SourceKind& kind : frontend::source_kinds()) {
    SCOPED_TRACE(kind.name);
    EXPECT_NE(kind.declares_fields, kind.fields != nullptr)
        << "either the model file says the fields or the source";
    bool needs_file = kind.declares_fields;
    for (const frontend::SourceOption& option : kind.options) needs_file = needs_file || option.required;
    if (needs_file) continue;
    const std::string field = kind.name == std::string("text") ? "tokens" : "image";
    compiler::CompileRequest request;
    request.file = "m.nn";
    request.text = std::string("data d = ") + kind.name +
                   "(batch=4)\nmodel net(x: f32[1]) = dense(x, 1)\ntrain {\n" +
                   "    loss mse(net(reshape(mean(cast(d." + field +
                   ", \"f32\")), [1])), 0.0)\n    optimizer sgd(lr=0.1)\n}\n";
    const DataRecord record = compiler::load_model(request)->model.experiment.data;
    ASSERT_FALSE(record.fields.empty());
    const runtime::Dataset data = runtime::load_dataset(record);
    for (const runtime::Split& split : data.splits)
      for (const DataField& said : record.fields) {
        SCOPED_TRACE(split.name + "." + said.name);
        const auto found = std::find_if(split.table->fields.begin(), split.table->fields.end(),
                                        [&](const runtime::Field& f) { return f.name == said.name; });
        ASSERT_NE(found, split.table->fields.end());
        EXPECT_EQ(found->shape, said.shape);
        ASSERT_EQ(found->dtype(), said.is_float ? GRADC_F32 : GRADC_I32);
        if (said.is_float || record.source == "text")
          continue;  // characters get their numbers when they are fitted
        ASSERT_FALSE(found->integers.empty());
        EXPECT_GE(*std::min_element(found->integers.begin(), found->integers.end()), 0);
        EXPECT_LT(*std::max_element(found->integers.begin(), found->integers.end()), said.count);
      }
    ++loaded;
  }
  EXPECT_GE(loaded, 3);  // synthetic_digits, text, random
}

}  // namespace
}  // namespace gradc::test::data_sources_test
