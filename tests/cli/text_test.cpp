// Models of characters: the text source, the vocabulary that travels with the weights, and `gradc sample`.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/data/text.h"
#include "runtime/execution/safetensors.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::text_test {
namespace {

using Json = nlohmann::json;

// Attention over 16 characters; `options` of the source.
std::string model(const std::string& options, const std::string& causal = "true",
                  const std::string& predict = "softmax(logits)") {
  return "data d = text(length=16, vocabulary=40, batch=16, " + options +
         ")\n"
         "model net(tokens: i32[16]) {\n"
         "    x = embedding(tokens, 40, 16) + sinusoidal_positions(16, 16)\n"
         "    x = x + multi_head_attention(x, 2, causal=" +
         causal +
         ")\n"
         "    return dense(x, 40, init=normal(0, 0.01)) as head\n}\n"
         "train {\n    logits = net(d.tokens)\n    loss mean(cross_entropy(logits, d.next))\n    predict " +
         predict + "\n    optimizer adam(lr=1e-2)\n    epochs 3\n}\n";
}

class TextTest : public testing::Test {
 protected:
  ToolResult run(const std::vector<std::string>& arguments) { return run_tool(arguments, folder.path()); }
  Json last(const ToolResult& r) {
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return r.exit_code == 0 ? Json::parse(lines(r.out).back()) : Json();
  }
  void refuses(const std::vector<std::string>& arguments, int code, const std::string& piece) {
    const ToolResult r = run(arguments);
    EXPECT_EQ(r.exit_code, code) << r.err;
    EXPECT_NE(r.err.find(piece), std::string::npos) << r.err;
  }
  TemporaryFolder folder;
};

TEST(Text, Utf8GoesThereAndBack) {
  const std::string text = "a\nz é Ω € 𝄞";
  const std::vector<int32_t> points = runtime::code_points(text, "text");
  EXPECT_EQ(points, (std::vector<int32_t>{'a', '\n', 'z', ' ', 0xE9, ' ', 0x3A9, ' ', 0x20AC, ' ', 0x1D11E}));
  std::string back;
  for (const int32_t c : points) back += runtime::utf8(c);
  EXPECT_EQ(back, text);
  // Cut short, a byte that begins nothing, too long a form, a surrogate, beyond the last.
  for (const char* wrong :
       {"ok \xE2\x82", "ok \xFF", "ok \xC0\xAF", "ok \xED\xA0\x80", "ok \xF4\x90\x80\x80"}) {
    try {
      runtime::code_points(wrong, "name.txt");
      ADD_FAILURE() << "taken";
    } catch (const RunError& e) {
      EXPECT_EQ(e.exit_code, kExitDataError);
      EXPECT_NE(std::string(e.what()).find("name.txt: byte 3 "), std::string::npos) << e.what();
    }
  }
}

TEST(Text, GrammarIsAFunctionOfItsSeed) {
  const std::string text = runtime::make_text(1, 0, 20000);
  EXPECT_EQ(text.size(), 20000u);
  EXPECT_EQ(text.substr(0, 500), runtime::make_text(1, 0, 500));
  EXPECT_NE(text.substr(0, 500), runtime::make_text(1, 1, 500));
  EXPECT_NE(text.substr(0, 500), runtime::make_text(2, 0, 500));
  EXPECT_LE(std::set<char>(text.begin(), text.end()).size(), 50u);
  // Sums are right, and verbs agree.
  EXPECT_NE(text.find("wo and three make five."), std::string::npos);
  EXPECT_EQ(text.find("wo and three make six"), std::string::npos);
  for (const char* wrong :
       {"The dog sleep ", "dogs sleeps", "the cat wait.", "cats waits", "every frog run "})
    EXPECT_EQ(text.find(wrong), std::string::npos) << wrong;
}

TEST(Text, VocabularyNumbersTheMostFrequent) {
  const std::map<int32_t, int64_t> counts = {{'a', 5}, {'b', 1}, {'c', 9}, {'d', 1}, {0x1D11E, 3}};
  const runtime::Vocabulary v = runtime::Vocabulary::of(counts, 5);  // numbers 0 to 4
  EXPECT_EQ(v.size(), 5);
  EXPECT_EQ(v.number('a'), 1);
  EXPECT_EQ(v.number('b'), 2);
  EXPECT_EQ(v.number('c'), 3);
  EXPECT_EQ(v.number(0x1D11E), 4);
  EXPECT_EQ(v.number('d'), 0);
  EXPECT_EQ(v.character(4), 0x1D11E);
  EXPECT_TRUE(runtime::Vocabulary::restored(v.kept().values) == v);
  for (const std::vector<double>& none : {std::vector<double>{2, 1}, {1, 1}, {1.5f}, {-3}, {2e7f}})
    EXPECT_TRUE(runtime::Vocabulary::restored(none).empty());
  EXPECT_EQ(runtime::Vocabulary::of(counts, 100).size(), 6);
}

TEST(Text, WindowsAndTheCharactersThatFollow) {
  TemporaryFolder folder;
  DataRecord record;
  record.name = "d";
  record.source = "text";
  record.options = {{"path", folder.write("t.txt", "abcdefghij")},
                    {"length", int64_t{4}},
                    {"stride", int64_t{3}},
                    {"vocabulary", int64_t{20}}};
  const auto splits = runtime::read_text(record);
  ASSERT_EQ(splits.size(), 1u);
  EXPECT_EQ(splits[0].count, 2);  // abcd and defg; ghij lacks the character after it
  const runtime::Field &tokens = splits[0].table->fields[0], &next = splits[0].table->fields[1];
  EXPECT_EQ(std::string(tokens.integers.begin(), tokens.integers.end()), "abcddefg");
  EXPECT_EQ(std::string(next.integers.begin(), next.integers.end()), "bcdeefgh");
}

TEST_F(TextTest, ATextIsLearntAndGoesOn) {
  std::string text;
  for (int i = 0; i < 400; ++i) text += "abcdefgh";
  folder.write("abc.txt", text);
  folder.write("m.nn", model("path=\"abc.txt\", stride=3"));
  const Json end = last(run({"train", "m.nn", "--json", "--epochs", "6", "--save", "w.safetensors"}));
  EXPECT_LT(end.at("train_loss").get<double>(), 0.8);
  const runtime::TensorFile file = runtime::read_safetensors(folder.path("w.safetensors"));
  EXPECT_EQ(file.tensors.at("data.tokens.vocabulary").shape, std::vector<int64_t>{8});
  const std::vector<std::string> sample = {"sample", "m.nn",     "--weights", "w.safetensors", "--prompt",
                                           "cde",    "--length", "40",        "--json"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), sample.begin(), sample.end());
    return last(run(more)).at("text").get<std::string>();
  };
  // Longer than a window, always the likeliest: the alphabet goes round.
  EXPECT_EQ(with({"--temperature", "0"}), "cde" + text.substr(5, 40));
  EXPECT_EQ(with({"--temperature", "3", "--seed", "7"}),
            with({"--temperature", "3", "--seed", "7", "--threads", "2"}));
  EXPECT_NE(with({"--temperature", "3", "--seed", "7"}), with({"--temperature", "3", "--seed", "8"}));
  // Without --json the text alone.
  const ToolResult plain = run({"sample", "m.nn", "--weights", "w.safetensors", "--prompt", "cde", "--length",
                                "5", "--temperature", "0"});
  EXPECT_EQ(plain.out, "cdefghab\n");

  // Evaluation numbers another text's characters as they were numbered in training: x is no character of it.
  folder.write("other.txt", "xxxxxxxxxxxxxxxx" + text.substr(0, 400));
  folder.write("other.nn", model("path=\"other.txt\""));
  const Json other = last(run({"eval", "other.nn", "--weights", "w.safetensors", "--json"}));
  EXPECT_GT(other.at("loss").get<double>(), 0.01);
  EXPECT_LT(other.at("loss").get<double>(), 2.5);
  // Going on with other characters would mistake each for another.
  refuses({"train", "other.nn", "--init-from", "w.safetensors", "--steps", "1"}, kExitDataError,
          "its 8 characters are not the 9 of this text");
  EXPECT_EQ(run({"train", "m.nn", "--init-from", "w.safetensors", "--steps", "1"}).exit_code, 0);

  refuses({"sample", "m.nn", "--weights", "w.safetensors", "--prompt", "ab?"}, kExitUsage,
          "does not know the character `?`; it knows abcdefgh");
  refuses({"sample", "m.nn", "--weights", "w.safetensors"}, kExitUsage, "character `\\n`");
  refuses({"sample", "m.nn", "--weights", "w.safetensors", "--prompt", ""}, kExitUsage, "--prompt is empty");
  refuses({"sample", "m.nn", "--weights", "w.safetensors", "--prompt", "\xFF"}, kExitDataError,
          "--prompt: byte 0");
  refuses({"sample", "m.nn", "--prompt", "a"}, kExitUsage, "--weights");
  // Weights of a smaller alphabet than the file declares, and of none.
  folder.write(
      "few.nn",
      std::string(model("path=\"abc.txt\"")).replace(model("").find("vocabulary=40"), 13, "vocabulary=6"));
  refuses({"sample", "few.nn", "--weights", "w.safetensors", "--prompt", "a"}, kExitDataError, "vocabulary");
}

// An executable of a model of characters says what the tool says; of another model it has no such command.
TEST_F(TextTest, AnExecutableGoesOnWithTheSameText) {
  folder.write("m.nn", model("characters=2000"));
  ASSERT_EQ(run({"train", "m.nn", "--steps", "20", "--save", "w.safetensors"}).exit_code, 0);
  ASSERT_EQ(run({"compile", "m.nn", "-o", "speak", "--target", "native"}).exit_code, 0);
  ASSERT_EQ(run({"compile", "m.nn", "-o", "alone", "--target", "native", "--infer", "--strip", "--weights",
                 "w.safetensors"})
                .exit_code,
            0);
  const auto own = [&](std::vector<std::string> command) {
    command[0] = folder.path(command[0]);
    return run_bare(command, folder.path());
  };
  for (const std::vector<std::string>& options :
       {std::vector<std::string>{"--prompt", "The ", "--length", "50", "--seed", "5", "--temperature", "0.7"},
        {"--prompt", "The ", "--length", "20", "--json"}}) {
    std::vector<std::string> tool = {"sample", "m.nn", "--weights", "w.safetensors"};
    std::vector<std::string> speak = {"speak", "sample", "--weights", "w.safetensors"},
                             alone = {"alone", "sample"};
    for (std::vector<std::string>* command : {&tool, &speak, &alone})
      command->insert(command->end(), options.begin(), options.end());
    const ToolResult wanted = run(tool);
    ASSERT_EQ(wanted.exit_code, 0) << wanted.err;
    EXPECT_GT(wanted.out.size(), 24u);
    EXPECT_EQ(own(speak).out, wanted.out);
    EXPECT_EQ(own(alone).out, wanted.out);
  }
  const ToolResult unknown = own({"alone", "sample", "--prompt", "\xCE\xA9"});
  EXPECT_EQ(unknown.exit_code, kExitUsage);
  EXPECT_NE(unknown.err.find("does not know the character"), std::string::npos) << unknown.err;
  EXPECT_NE(own({"speak", "--help"}).out.find("text that a model of characters makes"), std::string::npos);
  folder.write("digits.nn", small_model());
  ASSERT_EQ(run({"compile", "digits.nn", "-o", "digits", "--target", "native"}).exit_code, 0);
  const ToolResult none = own({"digits", "sample"});
  EXPECT_EQ(none.exit_code, kExitUsage);
  EXPECT_NE(none.err.find("there is no command 'sample'"), std::string::npos) << none.err;
}

TEST_F(TextTest, SamplingNeedsAModelOfCharacters) {
  const std::string source = "characters=2000";
  folder.write("ahead.nn", model(source, "false"));
  folder.write("scores.nn", model(source, "true", "logits"));
  folder.write("number.nn", model(source, "true", "sum(logits)"));
  folder.write("digits.nn", small_model());
  const auto trained = [&](const std::string& name) {
    EXPECT_EQ(run({"train", name + ".nn", "--steps", "2", "--save", name + ".st"}).exit_code, 0);
    return std::vector<std::string>{"sample", name + ".nn", "--weights", name + ".st", "--prompt", "a"};
  };
  refuses(trained("ahead"), kExitModelError, "causal=true");
  refuses(trained("scores"), kExitModelError, "predict softmax(logits)");
  refuses(trained("number"), kExitModelError, "f32[length, vocabulary]");
  refuses(trained("digits"), kExitModelError, "sequence of integers");
}

TEST_F(TextTest, SaysWhatIsWrongWithTheText) {
  folder.write("m.nn", model("path=\"t.txt\""));
  refuses({"train", "m.nn"}, kExitDataError, "t.txt");
  folder.write("t.txt", "short");
  refuses({"train", "m.nn"}, kExitDataError, "windows of 16 and the character after each need at least 17");
  folder.write("t.txt", "not \xC3( text, and long enough");
  refuses({"train", "m.nn"}, kExitDataError, "byte 4 (0xc3) begins no UTF-8 character");
  folder.write("one.nn", model("characters=2000, test=\"t.txt\""));
  refuses({"train", "one.nn"}, kExitDataError, "t.txt: byte 4");
}

TEST_F(TextTest, TheExampleLearnsAndSpeaks) {
  const std::string example = std::string(GRADC_SOURCE_DIR) + "/examples/transformer.nn";
  const std::vector<std::string> small = {example, "--set", "width=32", "--set", "length=32"};
  std::vector<std::string> train = {"train", "--json", "--steps", "250", "--save", "w.safetensors"};
  train.insert(train.begin() + 1, small.begin(), small.end());
  const Json end = last(run(train));
  EXPECT_LT(end.at("test_loss").get<double>(), 2.0);  // log(96) = 4.56; each character by its frequency: 2.9
  std::vector<std::string> sample = {"sample",   "--weights", "w.safetensors", "--prompt", "The small ",
                                     "--length", "60",        "--temperature", "0.5"};
  sample.insert(sample.begin() + 1, small.begin(), small.end());
  const ToolResult r = run(sample);
  ASSERT_EQ(r.exit_code, 0) << r.err;
  EXPECT_EQ(r.out.rfind("The small ", 0), 0u) << r.out;
  EXPECT_EQ(r.out.size(), 71u);
  EXPECT_NE(r.out.find(' ', 12), std::string::npos) << r.out;  // words
}

}  // namespace
}  // namespace gradc::test::text_test
