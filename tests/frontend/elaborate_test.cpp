// What models become: the IR text of small ones, names, sharing, states, the experiment's record, and places.
#include <algorithm>
#include <filesystem>

#include "support/check.h"
#include "tests/frontend/helpers.h"

namespace gradc::frontend_test::elaborate_test {
namespace {

// A function's text, by line, without the numbers of values.
bool holds(const std::string& text, const std::string& piece) {
  return text.find(piece) != std::string::npos;
}
size_t count(const std::string& text, const std::string& piece) {
  size_t n = 0;
  for (size_t at = text.find(piece); at != std::string::npos; at = text.find(piece, at + 1)) ++n;
  return n;
}
std::vector<std::string> symbols(const Compiled& c, SymbolKind kind) {
  std::vector<std::string> out;
  if (c.model)
    for (const Symbol& s : c.model->module->symbols)
      if (s.kind == kind) out.push_back(s.name + " " + to_string(s.type));
  return out;
}
using Names = std::vector<std::string>;

TEST(Elaborate, SoftmaxRegressionInFull) {
  const auto c = compile(
      experiment("model net(image: f32[1, 28, 28]) = image |> flatten |> dense(10, init=zeros)",
                 "metric accuracy(logits, digits.label); predict softmax(logits); optimizer sgd(lr=0.1)"));
  EXPECT_EQ(c->text(), R"(module "test.nn"
param @dense_1.weight : f32[10,784]
param @dense_1.bias : f32[10]

func @train(%image: f32[n,1,28,28], %label: i32[n]) {
  %1 = reshape %image {shape=[784]} : f32[n,784]
  %2 = einsum %1, @dense_1.weight {spec="nk,ok->no"} : f32[n,10]
  %3 = add %2, @dense_1.bias : f32[n,10]
  %4 = log_softmax %3 {axis=0} : f32[n,10]
  %5 = pick %4, %label : f32[n]
  %6 = neg %5 : f32[n]
  %7 = argmax %3 {axis=0} : i32[n]
  %8 = reduce_max %3 {axes=[0], batch=false, keep=true} : f32[n,1]
  %9 = reshape %8 {shape=[]} : f32[n]
  %10 = eq %7, %label : bool[n]
  %11 = eq %9, %9 : bool[n]
  %12 = logical_and %10, %11 : bool[n]
  %13 = cast %12 {to="f32"} : f32[n]
  return loss=%6, accuracy=%13
}

func @init() {
  %1 = constant {dtype="f32", value=0.0} : f32
  %2 = broadcast %1 {batched=false, shape=[10,784]} : f32[10,784]
  %3 = constant {dtype="f32", value=0.0} : f32
  %4 = broadcast %3 {batched=false, shape=[10]} : f32[10]
  update @dense_1.weight = %2
  update @dense_1.bias = %4
}

func @eval(%image: f32[n,1,28,28], %label: i32[n]) {
  %1 = reshape %image {shape=[784]} : f32[n,784]
  %2 = einsum %1, @dense_1.weight {spec="nk,ok->no"} : f32[n,10]
  %3 = add %2, @dense_1.bias : f32[n,10]
  %4 = log_softmax %3 {axis=0} : f32[n,10]
  %5 = pick %4, %label : f32[n]
  %6 = neg %5 : f32[n]
  %7 = argmax %3 {axis=0} : i32[n]
  %8 = reduce_max %3 {axes=[0], batch=false, keep=true} : f32[n,1]
  %9 = reshape %8 {shape=[]} : f32[n]
  %10 = eq %7, %label : bool[n]
  %11 = eq %9, %9 : bool[n]
  %12 = logical_and %10, %11 : bool[n]
  %13 = cast %12 {to="f32"} : f32[n]
  return loss=%6, accuracy=%13
}

func @predict(%image: f32[n,1,28,28]) {
  %1 = reshape %image {shape=[784]} : f32[n,784]
  %2 = einsum %1, @dense_1.weight {spec="nk,ok->no"} : f32[n,10]
  %3 = add %2, @dense_1.bias : f32[n,10]
  %4 = log_softmax %3 {axis=0} : f32[n,10]
  %5 = exp %4 : f32[n,10]
  return predict=%5
}

func @update.dense_1.weight(%g: f32[10,784], %step: f64, %epoch: f64, %total: f64, %lr_factor: f64) {
  %1 = constant {dtype="f64", value=0.1} : f64
  %2 = mul %1, %lr_factor : f64
  %3 = cast %2 {to="f32"} : f32
  %4 = mul %3, %g : f32[10,784]
  %5 = sub @dense_1.weight, %4 : f32[10,784]
  update @dense_1.weight = %5
  return lr=%2
}

func @update.dense_1.bias(%g: f32[10], %step: f64, %epoch: f64, %total: f64, %lr_factor: f64) {
  %1 = constant {dtype="f64", value=0.1} : f64
  %2 = mul %1, %lr_factor : f64
  %3 = cast %2 {to="f32"} : f32
  %4 = mul %3, %g : f32[10]
  %5 = sub @dense_1.bias, %4 : f32[10]
  update @dense_1.bias = %5
  return lr=%2
}
)");
}

TEST(Elaborate, EveryExampleCompilesAndItsTextReadsBack) {
  int files = 0;
  for (const char* folder : {"/examples", "/tests/frontend/models"}) {
    for (const auto& entry : std::filesystem::directory_iterator(std::string(GRADC_SOURCE_DIR) + folder)) {
      if (entry.path().extension() != ".nn") continue;
      ++files;
      const auto c = compile(read_file(entry.path().string()));
      ASSERT_TRUE(c->model) << entry.path() << "\n" << c->diagnostics.render();
      const std::string text = c->text();
      const ModuleParseResult again = parse_module(text);
      ASSERT_TRUE(again.module) << entry.path() << ": " << again.error;
      EXPECT_EQ(print(*again.module), text) << entry.path();
      EXPECT_EQ(verify(*again.module), Names{}) << entry.path();
    }
  }
  EXPECT_GE(files, 4);
}

TEST(Elaborate, NamesFollowTheText) {
  const auto c = compile(experiment(R"(
layer block(x, width, side=false) {
    h = x |> dense(width)
    if side { h = h + dense(x, width) }
    return h + dense(x, width)
}
model net(image: f32[1, 28, 28]) {
    x = flatten(image)
    x = x |> block(6) |> block(5, side=true) as middle
    for i in 0..2 { x = dense(x, 4 + i) }
    for i in 0..1 as tail { for j in 0..1 { x = x |> dense(3) |> dense(2) } }
    return x |> block(10)
})"));
  // A branch that is not taken counts all the same: in block_1 there is no dense_2.
  EXPECT_EQ(symbols(*c, SymbolKind::parameter),
            (Names{"block_1.dense_1.weight f32[6,784]",      "block_1.dense_1.bias f32[6]",
                   "block_1.dense_3.weight f32[6,784]",      "block_1.dense_3.bias f32[6]",
                   "middle.dense_1.weight f32[5,6]",         "middle.dense_1.bias f32[5]",
                   "middle.dense_2.weight f32[5,6]",         "middle.dense_2.bias f32[5]",
                   "middle.dense_3.weight f32[5,6]",         "middle.dense_3.bias f32[5]",
                   "for_1.0.dense_1.weight f32[4,5]",        "for_1.0.dense_1.bias f32[4]",
                   "for_1.1.dense_1.weight f32[5,4]",        "for_1.1.dense_1.bias f32[5]",
                   "tail.0.for_1.0.dense_1.weight f32[3,5]", "tail.0.for_1.0.dense_1.bias f32[3]",
                   "tail.0.for_1.0.dense_2.weight f32[2,3]", "tail.0.for_1.0.dense_2.bias f32[2]",
                   "block_2.dense_1.weight f32[10,2]",       "block_2.dense_1.bias f32[10]",
                   "block_2.dense_3.weight f32[10,2]",       "block_2.dense_3.bias f32[10]"}))
      << c->text();
}

TEST(Elaborate, DefinitionsAreValues) {
  const auto c = compile(experiment(R"(
layer block(x, width, part=dense, act=relu, first=normal(0, 0.5)) = x |> part(width, init=first) |> act
model net(image: f32[1, 28, 28]) = image |> flatten |> block(7, act=leaky_relu) |> block(10, init_of(0.25)) as head
fn init_of(x) = x
)"));
  EXPECT_FALSE(c->model);  // a number is no layer
  const auto d = compile(experiment(R"(
layer block(x, width, part=dense, act=relu, first=normal(0, 0.5)) = x |> part(width, init=first) |> act
model net(image: f32[1, 28, 28]) = image |> flatten |> block(7, act=leaky_relu) |> block(10, first=uniform(-0.25, high=0.25)) as head
)"));
  EXPECT_EQ(symbols(*d, SymbolKind::parameter),
            (Names{"block_1.part_1.weight f32[7,784]", "block_1.part_1.bias f32[7]",
                   "head.part_1.weight f32[10,7]", "head.part_1.bias f32[10]"}))
      << d->text();
  EXPECT_TRUE(holds(d->function("init"), "normal {batched=false, mean=0.0, shape=[7,784], std=0.5"))
      << d->text();
  EXPECT_TRUE(holds(d->function("init"), "uniform {batched=false, high=0.25, low=-0.25, shape=[10,7]"))
      << d->text();
  EXPECT_TRUE(holds(d->function("eval"), "select")) << d->text();
}

TEST(Elaborate, InitialisersSeeTheFans) {
  const auto c = compile(experiment(R"(
init mine(fan_in, fan_out, shape, gain=1.0) = normal(0, gain * (fan_in + 1000 * fan_out + 1000000 * len(shape)))
model net(image: f32[1, 28, 28]) {
    y = conv2d(image, 6, kernel=[3, 5], init=mine(gain=2)) |> flatten
    return y |> dense(10, init=mine)
})"));
  const std::string init = c->function("init");
  EXPECT_TRUE(holds(init, "shape=[6,1,3,5], std=8180030.0")) << init;  // 2 (15 + 1000 * 90 + 4000000)
  EXPECT_TRUE(holds(init, "shape=[10,3744], std=2013744.0")) << init;  // 6 * 26 * 24 in
}

TEST(Elaborate, UsersDefinitionsShadowThePrelude) {
  const auto c = compile(experiment(R"(
layer dense(x, out) { table = param[out, x.size] ~ 0; return table @ x + 1 }
fn relu(x) = max(x, 0)
model net(image: f32[1, 28, 28]) = image |> flatten |> dense(4) |> relu |> maxout(3) |> prelude.dense(10)
)"));
  // maxout is the prelude's and goes on calling the prelude's dense.
  EXPECT_EQ(symbols(*c, SymbolKind::parameter),
            (Names{"dense_1.table f32[4,784]", "maxout_1.dense_1.weight f32[6,4]",
                   "maxout_1.dense_1.bias f32[6]", "dense_2.weight f32[10,3]", "dense_2.bias f32[10]"}))
      << c->text();
  EXPECT_FALSE(holds(c->function("eval"), "relu"));
}

TEST(Elaborate, ReuseSharesParametersAndUpdatesStateInOrder) {
  const auto c = compile(experiment(R"(
layer tower(x, width) = x |> dense(width) |> counted
layer counted(x) {
    state seen[] = 0
    if training { seen = seen + 1 }
    return x * (seen + 1)
}
model net(image: f32[1, 28, 28]) {
    x = flatten(image)
    a = tower(x, 10) as shared
    b = tower(x * 2, 10) reuse shared
    for i in 0..1 { b = b + (tower(x, 10) reuse shared) }
    return a + b
})"));
  EXPECT_EQ(symbols(*c, SymbolKind::parameter),
            (Names{"shared.dense_1.weight f32[10,784]", "shared.dense_1.bias f32[10]"}))
      << c->text();
  EXPECT_EQ(symbols(*c, SymbolKind::state), (Names{"shared.counted_1.seen f32"}));
  const std::string train = c->function("train");
  EXPECT_EQ(count(train, "update @"), 1u) << train;
  EXPECT_EQ(count(train, "@shared.dense_1.weight"), 3u) << train;
  // The state is read once as a symbol; what was assigned is read, without a gradient, after that.
  EXPECT_EQ(count(train, "add @shared.counted_1.seen"), 1u) << train;
  EXPECT_EQ(count(train, "stop_gradient"), 5u) << train;
  EXPECT_EQ(count(c->function("eval"), "@shared.counted_1.seen"), 3u);
}

TEST(Elaborate, TwoModelsAndSeveralInputs) {
  const auto c = compile(R"(
data digits = synthetic_digits(batch=16)
model encoder(image: f32[1, 28, 28], label: i32, width=8) = image |> flatten |> dense(width) |> add_one_hot(label)
layer add_one_hot(x, label) = x + one_hot(label, x.channels)
train {
    a = encoder(digits.image, digits.label)
    b = encoder(digits.image * 2, digits.label) reuse encoder
    c = encoder(digits.image, digits.label, width=4) as second
    loss near = mse(a, b)
    loss sum(c^2) weight 0.25
    optimizer sgd(lr=0.1)
})");
  EXPECT_EQ(symbols(*c, SymbolKind::parameter),
            (Names{"dense_1.weight f32[8,784]", "dense_1.bias f32[8]", "second.dense_1.weight f32[4,784]",
                   "second.dense_1.bias f32[4]"}))
      << c->text();
  EXPECT_TRUE(holds(c->function("train"), "near="));
  EXPECT_TRUE(holds(c->function("train"), "value=0.25"));
}

TEST(Elaborate, ProgramsDifferByTrainingAndStochastic) {
  const auto c = compile(experiment(
      "model net(image: f32[1, 28, 28]) = image |> flatten |> batchnorm |> dropout(0.25) |> dense(10)",
      "optimizer adam(); predict logits"));
  EXPECT_TRUE(holds(c->function("train"), "batch_mean"));
  EXPECT_TRUE(holds(c->function("train"), "bernoulli {batched=true, keep=0.75, shape=[784], stream=0}"));
  EXPECT_EQ(count(c->function("train"), "update @"), 2u);
  for (const char* f : {"eval", "predict"}) {
    EXPECT_TRUE(holds(c->function(f), "@batchnorm_1.running_mean, @batchnorm_1.running_var"))
        << c->function(f);
    EXPECT_FALSE(holds(c->function(f), "batch_mean"));
    EXPECT_FALSE(holds(c->function(f), "bernoulli"));
    EXPECT_FALSE(holds(c->function(f), "update @"));
  }
  EXPECT_FALSE(holds(c->function("predict"), "%label"));
  // In the first form of dropout the mask falls away, and the layer's input is passed on as it is.
  EXPECT_TRUE(holds(c->function("eval"), "einsum %2, @dense_1.weight")) << c->function("eval");
}

TEST(Elaborate, RandomStreamsDiffer) {
  const auto c =
      compile(model("x = flatten(image)\nfor i in 0..3 { x = x |> dropout(0.5) |> dense(10) |> "
                    "gaussian_noise(0.5) }\nreturn x"));
  const std::string train = c->function("train"), init = c->function("init");
  for (int i = 0; i < 6; ++i)
    EXPECT_EQ(
        count(train, "stream=" + std::to_string(i) + "}") + count(train, "stream=" + std::to_string(i) + ","),
        1u)
        << train;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(count(init, "stream=" + std::to_string((1 << 20) + i)), 1u) << init;
}

TEST(Elaborate, MatmulBecomesEinsum) {
  const auto spec = [](const std::string& body) {
    const auto c = compile(model(body + "\nreturn dense(flatten(y), 10)"));
    const std::string eval = c->function("eval");
    const size_t at = eval.find("einsum");
    return at == std::string::npos ? eval : eval.substr(at, eval.find('\n', at) - at);
  };
  EXPECT_EQ(spec("x = flatten(image)\nw = param[5, 784] ~ zeros\ny = w @ x"),
            R"(einsum %1, @w {spec="nk,ok->no"} : f32[n,5])");
  EXPECT_EQ(spec("x = image[0]\nw = param[28, 5] ~ zeros\ny = x @ w"),
            R"(einsum %2, @w {spec="nik,ko->nio"} : f32[n,28,5])");
  EXPECT_EQ(spec("x = image[0]\nw = param[5, 28] ~ zeros\ny = x @ transpose(w)"),
            R"(einsum %2, @w {spec="nik,ok->nio"} : f32[n,28,5])");
  EXPECT_EQ(spec("x = image[0]\nw = param[5, 28] ~ zeros\ny = w @ x"),
            R"(einsum %2, @w {spec="nkj,ok->noj"} : f32[n,5,28])");
  EXPECT_EQ(spec("x = image[0]\ny = x @ transpose(x)\nw = param[1] ~ zeros\ny = y + w"),
            R"(einsum %2, %2 {spec="nik,nok->nio"} : f32[n,28,28])");
  EXPECT_EQ(spec("x = flatten(image)\nw = param[784] ~ zeros\ny = reshape(w @ x, [1])"),
            R"(einsum %1, @w {spec="nk,k->n"} : f32[n])");
  // A stack that one side repeats beside one that both have, in either order.
  for (const auto& [left, right] : {std::pair{"2, 1", "2, 3"}, {"2, 3", "2, 1"}}) {
    const std::string product = spec(fmt::format(
        "a = param[{}, 4, 5] ~ zeros\nb = param[{}, 5, 4] ~ zeros\ny = image * sum(a @ b)", left, right));
    EXPECT_NE(product.find(": f32[2,3,4,4]"), std::string::npos) << product;
  }
  EXPECT_EQ(spec("x = reshape(image, [4, 14, 14])\nw = param[4, 14, 3] ~ zeros\ny = x @ w"),
            R"(einsum %1, @w {spec="naik,ako->naio"} : f32[n,4,14,3])");
  EXPECT_EQ(spec("x = reshape(image, [4, 14, 14])\nw = param[14, 3] ~ zeros\ny = x @ w"),
            R"(einsum %1, @w {spec="naik,ko->naio"} : f32[n,4,14,3])");
  EXPECT_EQ(spec("x = flatten(image)\nw = param[5, 784] ~ zeros\ny = einsum(\"ok,k->o\", w, x)"),
            R"(einsum %1, @w {spec="nk,ok->no"} : f32[n,5])");
}

TEST(Elaborate, StaticValues) {
  // Each value ends up as the width of a layer.
  const auto width = [](const std::string& expression) {
    const auto c = compile(model("x = flatten(image)\nlist = [3, 5, 7]\nh = dense(x, " + expression +
                                 ")\nreturn dense(h, 10 + 0 * len(list))"));
    for (const std::string& s : symbols(*c, SymbolKind::parameter))
      if (s.find("dense_1.bias f32[") == 0) return s.substr(17, s.size() - 18);
    return c->diagnostics.render();
  };
  EXPECT_EQ(width("7 // 2"), "3");
  EXPECT_EQ(width("-(-7 // 2)"), "4");
  EXPECT_EQ(width("-7 % 3"), "2");
  EXPECT_EQ(width("2^5"), "32");
  EXPECT_EQ(width("int(7 / 2)"), "3");
  EXPECT_EQ(width("list[-1] + list[0]"), "10");
  EXPECT_EQ(width("len(list[1..3]) + len(0..4)"), "6");
  EXPECT_EQ(width("(list + [9])[3]"), "9");
  EXPECT_EQ(width("max(3, 4) * min(2, 8)"), "8");
  EXPECT_EQ(width("int(sqrt(x.size))"), "28");
  EXPECT_EQ(width("floor(7) + abs(-3) + sign(2)"), "11");  // of integers, these are integers
  EXPECT_EQ(width("int(div(add(9, 5), 2) + softplus(0) / log(2))"), "8");
  EXPECT_NE(width("log(0)").find("`log` of 0 is not a finite number"), std::string::npos);
  EXPECT_EQ(width("if 3 < 4 and not (2 >= 3) or 1 == 2 { 11 } else { 12 }"), "11");
  EXPECT_EQ(width("if \"a\" + \"b\" == \"ab\" and [1, 2] != [1, 3] { 1 } else { 2 }"), "1");
  EXPECT_EQ(width("image.shape[1] + image.rank + image.channels + image.height + image.width"), "88");
  EXPECT_EQ(width("if x.dtype == \"f32\" { 1 } else { 2 }"), "1");
}

TEST(Elaborate, LoopsRebindAndScopesEnd) {
  const auto c =
      compile(model("x = flatten(image)\nwidths = [9, 8]\nfor w in widths { inner = dense(x, w); x = "
                    "relu(inner) }\nif true { y = 3; x = x * y }\nreturn dense(x, 10)"));
  EXPECT_EQ(symbols(*c, SymbolKind::parameter).size(), 6u) << c->text();
}

TEST(Elaborate, UpdatesFollowTheOptionsOfTheOptimizer) {
  const auto c = compile(experiment(
      "model net(image: f32[1, 28, 28]) = image |> flatten |> dense(8) as body |> batchnorm |> dense(10) as "
      "head",
      "optimizer momentum(lr=0.5, weight_decay=0.25) no_decay \"*.bias\", \"*.gamma\", \"*.beta\"; "
      "optimizer adamw(weight_decay=0.125) on \"head.*\" no_decay \"head.bias\"; freeze \"body.bias\""));
  EXPECT_TRUE(holds(c->function("update.body.weight"), "mul @body.weight, %3"))
      << c->function("update.body.weight");
  EXPECT_TRUE(holds(c->function("update.body.weight"), "value=0.25"));
  EXPECT_FALSE(holds(c->function("update.batchnorm_1.gamma"), "0.25"));
  EXPECT_FALSE(c->model->module->function("update.body.bias"));
  EXPECT_TRUE(holds(c->function("update.head.weight"), "value=0.125"));
  EXPECT_FALSE(holds(c->function("update.head.bias"), "0.125"));
  EXPECT_EQ(symbols(*c, SymbolKind::slot),
            (Names{"body.weight.velocity f32[8,784]", "batchnorm_1.gamma.velocity f32[8]",
                   "batchnorm_1.beta.velocity f32[8]", "head.weight.m f32[10,8]", "head.weight.v f32[10,8]",
                   "head.bias.m f32[10]", "head.bias.v f32[10]"}));
  // Every symbol has its initial value.
  EXPECT_EQ(c->model->module->function("init")->updates.size(), c->model->module->symbols.size());
}

TEST(Elaborate, OptimizersOfTheUser) {
  const auto c = compile(experiment(R"(
optimizer mine(lr=1e-2, decay=0.5) {
    state m = 1
    state[] count = 2
    count = count + 1
    m = decay * m + g / norm(g)
    w = w - lr * m / (1 - decay^t) / count
}
model net(image: f32[1, 28, 28]) = image |> flatten |> dense(10))",
                                    "optimizer mine(decay=0.75); schedule cosine"));
  const std::string f = c->function("update.dense_1.weight");
  EXPECT_TRUE(holds(c->text(), "slot @dense_1.weight.count : f32\n")) << c->text();
  EXPECT_TRUE(holds(f, "cos %")) << f;
  EXPECT_TRUE(holds(f, "value=0.75} : f64")) << f;  // decay^t, in double
  EXPECT_TRUE(holds(f, "value=0.75} : f32")) << f;  // decay * m
  EXPECT_EQ(count(f, "update @dense_1.weight"), 3u) << f;
}

TEST(Elaborate, PenaltiesLeaveOutWhatIsNotDecayed) {
  const auto c =
      compile(experiment("model net(image: f32[1, 28, 28]) = image |> flatten |> dense(8) as a |> dense(9) "
                         "as b |> dense(10) as c",
                         "optimizer sgd() no_decay \"*.bias\"; penalty l2(0.25); penalty l1(0.125) on "
                         "\"b.*\"; freeze \"c.weight\""));
  const std::string train = c->function("train");
  EXPECT_EQ(count(train, "reduce_sum"), 3u) << train;  // l2 of a.weight and b.weight, l1 of b.weight
  EXPECT_EQ(count(train, "abs @b.weight"), 1u);
  EXPECT_TRUE(holds(train, "penalty=")) << train;
  EXPECT_FALSE(holds(c->function("eval"), "penalty="));
}

TEST(Elaborate, TheRecordCarriesTheExperiment) {
  const auto c = compile(
      "set dir = \"a b\"\nset n = 3\ndata d = mnist(dir, batch=n * 4, last=drop) {\n  split val = 1000 * n "
      "of train\n  split probe = 5 of val\n}\n"
      "model net(image: f32[1, 28, 28]) = image |> flatten |> dense(10)\n"
      "train {\n  l = net(d.image)\n  loss cross_entropy(l, d.label)\n  optimizer sgd()\n  epochs n\n  seed "
      "7\n}\n",
      {{"dir", "x/y"}, {"n", "5"}});
  ASSERT_TRUE(c->model) << c->text();
  const Experiment& r = c->model->experiment;
  EXPECT_EQ(r.data.name, "d");
  EXPECT_EQ(r.data.source, "mnist");
  EXPECT_EQ(r.data.batch, 20);
  EXPECT_TRUE(r.data.drop_last);
  EXPECT_EQ(std::get<std::string>(r.data.options.at("path")), "x/y");
  EXPECT_EQ(r.data.options.size(), 1u);
  ASSERT_EQ(r.data.splits.size(), 2u);
  EXPECT_EQ(r.data.splits[0].name, "val");
  EXPECT_EQ(r.data.splits[0].count, 5000);
  EXPECT_EQ(r.data.splits[1].from, "val");
  EXPECT_EQ(r.train.epochs, 5);
  EXPECT_EQ(r.train.seed, 7);
  const auto idx = compile(
      "data d = idx(\"a\", \"b\", height=32, width=16, channels=3)\nmodel net(image: f32[3, 32, 16]) = image "
      "|> flatten |> dense(10)\n"
      "train {\n  l = net(d.image)\n  loss cross_entropy(l, d.label)\n  optimizer sgd()\n}\n");
  ASSERT_TRUE(idx->model) << idx->text();
  EXPECT_EQ(idx->model->experiment.data.options.size(),
            5u);  // images, labels, test_images, test_labels, classes: the reader finds the size
  EXPECT_EQ(idx->model->experiment.train.epochs, 1);
}

TEST(Elaborate, EveryOperationKnowsItsPlaceAndTrail) {
  const auto c = compile(
      experiment("layer block(x, out) {\n    h = dense(x, out)\n    return relu(h)\n}\nmodel net(image: "
                 "f32[1, 28, 28]) {\n"
                 "    x = flatten(image)\n    for i in 0..2 as part { x = block(x, 10) }\n    return x\n}"));
  ASSERT_TRUE(c->model) << c->text();
  const Function* f = c->model->module->function("train");
  int einsums = 0;
  for (const Op* op : f->ops()) {
    ASSERT_FALSE(op->locations.empty()) << op->name();
    ASSERT_TRUE(op->locations[0].valid()) << op->name();
    if (!op->is("einsum")) continue;
    const Location& l = op->locations[0];
    EXPECT_EQ(*l.file, "prelude/layers.nn");
    ASSERT_TRUE(l.call && l.call->parent && l.call->parent->parent);
    EXPECT_EQ(l.call->callee, "dense");
    EXPECT_EQ(l.call->instance, einsums == 0 ? "part.0.block_1.dense_1" : "part.1.block_1.dense_1");
    EXPECT_EQ(l.call->line, 3u);
    EXPECT_EQ(l.call->details, "with out=10");
    EXPECT_EQ(l.call->parent->callee, "block");
    EXPECT_EQ(l.call->parent->parent->callee, "net");
    EXPECT_EQ(user_location(l), "test.nn:3");
    ++einsums;
  }
  EXPECT_EQ(einsums, 2);
}

TEST(Elaborate, OneSourceManagerServesSeveralCompilations) {
  SourceManager sources;
  for (int i = 0; i < 3; ++i) {
    Diagnostics diagnostics(sources);
    const uint32_t file =
        sources.add("m.nn", experiment("model net(image: f32[1, 28, 28]) = image |> flatten |> dense(10)"));
    EXPECT_TRUE(frontend::compile(sources, file, {}, diagnostics)) << diagnostics.render();
  }
}

}  // namespace
}  // namespace gradc::frontend_test::elaborate_test
