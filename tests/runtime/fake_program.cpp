#include "tests/runtime/fake_program.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>

#include "support/philox.h"

namespace gradc::runtime::test {
namespace {

constexpr int64_t kIn = 784, kOut = 10;
constexpr int64_t kWeight = 0, kBias = kIn * kOut * 4, kSeen = kBias + 64, kWeightV = kSeen + 64,
                  kBiasV = kWeightV + kIn * kOut * 4;
constexpr int64_t kParameterBytes = kBiasV + 64;

Seen record;

float* at(const gradc_step_args* args, int64_t offset) {
  return reinterpret_cast<float*>(args->parameters + offset);
}

struct Part {
  int64_t begin, end;
};
Part part_of(int64_t count, int32_t thread, int32_t threads) {
  return {count * thread / threads, count * (thread + 1) / threads};
}

// Probabilities, losses and hits of this thread's rows: out[row * 12 + 0..9], [10] loss, [11] hit. label may
// be null.
void forward(const gradc_step_args* args, const int32_t* label, int32_t thread, int32_t threads) {
  const auto* image = static_cast<const float*>(args->inputs[0]);
  const float *weight = at(args, kWeight), *bias = at(args, kBias);
  const Part rows = part_of(args->rows, thread, threads);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    float* out = reinterpret_cast<float*>(args->arena) + row * 12;
    for (int64_t c = 0; c < kOut; ++c) {
      float sum = bias[c];
      for (int64_t k = 0; k < kIn; ++k) sum += weight[c * kIn + k] * image[row * kIn + k];
      out[c] = sum;
    }
    const int64_t best = std::max_element(out, out + kOut) - out;
    const float top = out[best];
    float total = 0;
    const float own = label ? out[label[row]] : 0;
    for (int64_t c = 0; c < kOut; ++c) total += out[c] = std::exp(out[c] - top);
    for (int64_t c = 0; c < kOut; ++c) out[c] /= total;
    if (label) {
      out[10] = std::log(total) + top - own;
      out[11] = best == label[row] ? 1.0f : 0.0f;
    }
  }
}

void wait_for_all(const gradc_step_args* args, int32_t threads) {
  if (threads > 1) args->barrier(args->team);
}

float sum_of(const gradc_step_args* args, int column) {
  float sum = 0;
  for (int64_t row = 0; row < args->rows; ++row)
    sum += reinterpret_cast<const float*>(args->arena)[row * 12 + column];
  return sum;
}

int32_t run_init(const gradc_step_args* args, int32_t thread, int32_t threads) {
  const Part part = part_of(kIn * kOut, thread, threads);
  for (int64_t i = part.begin; i < part.end; ++i) {
    at(args, kWeight)[i] = static_cast<float>(
        0.02 *
        (uniform_from_word(random_word(args->seed, args->micro_step, 1, static_cast<uint64_t>(i), 0)) - 0.5));
    at(args, kWeightV)[i] = 0;
  }
  if (thread != 0) return 0;
  std::fill_n(at(args, kBias), kOut, 0.0f);
  std::fill_n(at(args, kBiasV), kOut, 0.0f);
  *at(args, kSeen) = 0;
  return 0;
}

int32_t run_train(const gradc_step_args* args, int32_t thread, int32_t threads) {
  const auto* label = static_cast<const int32_t*>(args->inputs[1]);
  if (thread == 0) {
    record.smallest = record.calls == 0 ? args->rows : std::min(record.smallest, args->rows);
    record.largest = std::max(record.largest, args->rows);
    record.rows += args->rows;
    for (int64_t row = 0; row < args->rows; ++row) record.label_sum += label[row];
    record.step = args->scalars[GRADC_SCALAR_STEP];
    record.epoch = args->scalars[GRADC_SCALAR_EPOCH];
    record.total = args->scalars[GRADC_SCALAR_TOTAL];
    record.lr_factor = args->scalars[GRADC_SCALAR_LR_FACTOR];
    record.seed = args->seed;
    record.micro_step = args->micro_step;
    record.threads = threads;
    if (++record.calls == record.interrupt_at)
      for (int i = 0; i < record.interrupts; ++i)
        std::raise(i > 0 && record.second != 0 ? record.second : record.signal);
  }
  forward(args, label, thread, threads);
  wait_for_all(args, threads);
  const float loss = sum_of(args, 10);
  // Every thread sees the same sum and comes to the same decision.
  if (!std::isfinite(loss) || record.calls == record.stop_at) return 1;
  const double lr =
      0.1 * (1 - args->scalars[GRADC_SCALAR_STEP] / std::max(args->scalars[GRADC_SCALAR_TOTAL], 1.0)) *
      args->scalars[GRADC_SCALAR_LR_FACTOR];
  const auto* image = static_cast<const float*>(args->inputs[0]);
  const auto* probability = reinterpret_cast<const float*>(args->arena);
  const auto rate = static_cast<float>(lr), rows = static_cast<float>(args->rows);
  const Part classes = part_of(kOut, thread, threads);
  for (int64_t c = classes.begin; c < classes.end; ++c) {
    float bias_gradient = 0;
    for (int64_t k = 0; k < kIn; ++k) {
      float gradient = 0;
      for (int64_t row = 0; row < args->rows; ++row)
        gradient += (probability[row * 12 + c] - (label[row] == c ? 1.0f : 0.0f)) * image[row * kIn + k];
      float& v = at(args, kWeightV)[c * kIn + k];
      v = 0.9f * v + gradient / rows;
      at(args, kWeight)[c * kIn + k] -= rate * v;
    }
    for (int64_t row = 0; row < args->rows; ++row)
      bias_gradient += probability[row * 12 + c] - (label[row] == c ? 1.0f : 0.0f);
    float& v = at(args, kBiasV)[c];
    v = 0.9f * v + bias_gradient / rows;
    at(args, kBias)[c] -= rate * v;
  }
  if (thread == 0 && record.calls == record.break_at) {
    const std::string& name = record.broken;
    *at(args, name == "seen"               ? kSeen
              : name == "dense_1.weight.v" ? kWeightV
              : name == "dense_1.weight"   ? kWeight
                                           : kBias) = INFINITY;
  }
  if (thread == 0) {
    *at(args, kSeen) += rows;
    *static_cast<float*>(args->outputs[0]) = loss;
    *static_cast<float*>(args->outputs[1]) = sum_of(args, 11);
    *static_cast<double*>(args->outputs[2]) = lr;
  }
  return 0;
}

int32_t run_eval(const gradc_step_args* args, int32_t thread, int32_t threads) {
  forward(args, static_cast<const int32_t*>(args->inputs[1]), thread, threads);
  wait_for_all(args, threads);
  if (thread == 0) ++record.evaluations;
  const bool stop = record.stop_evaluation > 0 && record.evaluations >= record.stop_evaluation;
  if (stop || !std::isfinite(sum_of(args, 10))) return 1;  // as the ABI says; the outputs then mean nothing
  if (thread == 0) {
    *static_cast<float*>(args->outputs[0]) = sum_of(args, 10);
    *static_cast<float*>(args->outputs[1]) = sum_of(args, 11);
  }
  return 0;
}

int32_t run_predict(const gradc_step_args* args, int32_t thread, int32_t threads) {
  forward(args, nullptr, thread, threads);
  const Part rows = part_of(args->rows, thread, threads);
  for (int64_t row = rows.begin; row < rows.end; ++row)
    std::memcpy(static_cast<float*>(args->outputs[0]) + row * kOut,
                reinterpret_cast<const float*>(args->arena) + row * 12, kOut * 4);
  return 0;
}

}  // namespace

Seen& seen() { return record; }

const gradc_program& fake_program(const FakeOptions& options) {
  static const int64_t weight_shape[] = {kOut, kIn}, class_shape[] = {kOut}, image_shape[] = {1, 28, 28};
  static const gradc_symbol symbols[] = {
      {"dense_1.weight", GRADC_PARAMETER, GRADC_F32, 2, weight_shape, kWeight},
      {"dense_1.bias", GRADC_PARAMETER, GRADC_F32, 1, class_shape, kBias},
      {"seen", GRADC_STATE, GRADC_F32, 0, nullptr, kSeen},
      {"dense_1.weight.v", GRADC_SLOT, GRADC_F32, 2, weight_shape, kWeightV},
      {"dense_1.bias.v", GRADC_SLOT, GRADC_F32, 1, class_shape, kBiasV},
  };
  static const gradc_input inputs[] = {{"digits.image", GRADC_F32, 3, image_shape},
                                       {"digits.label", GRADC_I32, 0, nullptr}};
  static const gradc_output scalars[] = {{"loss", GRADC_F32, 0, 0, nullptr},
                                         {"accuracy", GRADC_F32, 0, 0, nullptr},
                                         {"lr", GRADC_F64, 0, 0, nullptr}};
  static const gradc_output prediction[] = {{"predict", GRADC_F32, 1, 1, class_shape}};
  static gradc_program program;
  static std::string json;
  json = "{\"data\":" + options.data + ",\"train\":{\"epochs\":" + std::to_string(options.epochs) +
         ",\"seed\":7" + (options.rules.empty() ? "" : ",") + options.rules + "}}";
  const int64_t arena = options.batch * 12 * 4;
  program = {GRADC_ABI_VERSION,
             "0.1.0",
             "x86-64-v2",
             "model softmax",
             "softmax.nn",
             options.batch,
             kParameterBytes,
             5,
             symbols,
             {run_init, 0, 0, nullptr, 0, nullptr, options.max_threads},
             {run_train, arena, 2, inputs, 3, scalars, options.max_threads},
             {run_eval, arena, 2, inputs, 2, scalars, options.max_threads},
             {options.predict ? run_predict : nullptr, arena, 1, inputs, 1, prediction, options.max_threads},
             json.c_str(),
             {}};
  record = {};
  return program;
}

}  // namespace gradc::runtime::test
