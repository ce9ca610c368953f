// Trains on data that the program makes itself: two spirals, which a small network learns to tell apart. The
// program owns the loop: it draws a batch, makes a step, and evaluates now and then.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "gradc/gradc.hpp"

static const char* const kModel = R"(
data points = arrays(batch=64, classes=2) {
    field x:     f32[2]
    field label: i32
}

model spirals(x: f32[2]) = x |> dense(64) |> tanh |> dense(64) |> tanh |> dense(2) as head

train {
    logits    = spirals(points.x)
    loss      cross_entropy(logits, points.label)
    metric    accuracy(logits, points.label)
    predict   softmax(logits)
    optimizer adam(lr=5e-3)
    schedule  cosine
    seed      1
}
)";

struct Points {
  std::vector<float> x;  // rows x 2
  std::vector<int32_t> label;
};

static Points draw(int rows, std::mt19937& random) {
  std::uniform_real_distribution<float> unit(0, 1);
  Points points;
  for (int i = 0; i < rows; ++i) {
    const int label = i % 2;
    const float radius = 0.2f + unit(random), angle = 6 * radius + 3.14159265f * static_cast<float>(label);
    points.x.insert(points.x.end(), {radius * std::cos(angle), radius * std::sin(angle)});
    points.label.push_back(label);
  }
  return points;
}

int main() try {
  constexpr int kSteps = 600;
  gradc::Session session(gradc::Model::from_string(kModel, "spirals.nn"));
  session.set_progress(0, 0, kSteps);  // what the schedule needs to know
  std::mt19937 random(7);
  const Points test = draw(1000, random);

  for (int step = 1; step <= kSteps; ++step) {
    const Points batch = draw(64, random);
    session.step({batch.x, batch.label});
    if (step % 150 != 0) continue;
    const gradc::Result result = session.evaluate({test.x, test.label});
    std::printf("step %d  loss %.4f  accuracy %.1f%%\n", step, result.loss, 100 * result.metric("accuracy"));
  }

  const std::vector<float> point = {0.5f, 0.1f};
  const std::vector<float> probability = session.predict({point});
  std::printf("P(second spiral | %.1f, %.1f) = %.3f\n", point[0], point[1], probability[1]);
  session.save("spirals.safetensors");
  return session.evaluate({test.x, test.label}).metric("accuracy") > 0.95 ? 0 : 1;
} catch (const gradc::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.status();
}
