// What the frontend's tests share: compiling a text, reading files.
#pragma once
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "frontend/frontend.h"

namespace gradc::frontend_test {

struct Compiled {
  SourceManager sources;
  Diagnostics diagnostics{sources};
  std::optional<frontend::Model> model;
  std::string text() const { return model ? print(*model->module) : diagnostics.render(); }
  std::string function(const std::string& name) const {
    const Function* f = model ? model->module->function(name) : nullptr;
    return f ? print(*f) : diagnostics.render();
  }
};

inline std::unique_ptr<Compiled> compile(const std::string& text,
                                         const std::map<std::string, std::string>& settings = {},
                                         const std::string& name = "test.nn") {
  auto c = std::make_unique<Compiled>();
  c->model = frontend::compile(c->sources, c->sources.add(name, text), settings, c->diagnostics);
  EXPECT_EQ(c->model.has_value(), !c->diagnostics.has_errors());
  return c;
}

// A whole file around a model `net`, which is given an image of 28 x 28 and must end in 10 scores.
inline std::string experiment(const std::string& definitions,
                              const std::string& statements = "optimizer sgd(lr=0.1)") {
  return "data digits = synthetic_digits(batch=16)\n" + definitions +
         "\ntrain {\n    logits = net(digits.image)\n    loss cross_entropy(logits, digits.label)\n    " +
         statements + "\n}\n";
}

inline std::string model(const std::string& body) {
  return experiment("model net(image: f32[1, 28, 28]) {\n" + body + "\n}\n");
}

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace gradc::frontend_test
