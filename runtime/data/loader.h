// Assembles the next batch while the last one is worked on. Knows nothing of what batches hold.
#pragma once
#include <array>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace gradc::runtime {

// Two buffers and some threads. One thread uses the loader; what it got from fetch() stays as it is until the
// next fetch(). The bits do not depend on the number of threads, since each part of a batch is assembled
// alone.
class Loader {
 public:
  // assemble(index, part, parts, buffer) fills one part of batch `index` in buffer 0 or 1; it may throw.
  // Throws RunError (kExitRunFailed) when the threads cannot be started.
  using Assemble = std::function<void(int64_t index, int part, int parts, int buffer)>;
  Loader(int threads, Assemble assemble);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // Begins with a batch, unless it is there or under way.
  void start(int64_t index);
  // The buffer that holds the batch, once it is complete. Then begins with `next`; -1: with nothing. Throws
  // what assemble() threw.
  int fetch(int64_t index, int64_t next);
  // Forgets all batches and waits until no thread assembles: before what assemble() reads is changed.
  void cancel();

 private:
  void worker();
  void begin(int64_t index, int buffer);  // with the mutex
  bool idle() const { return running_ == 0 && next_part_ == parts_; }

  const Assemble assemble_;
  const int parts_of_batch_;
  std::mutex mutex_;
  std::condition_variable work_, ready_;
  int64_t index_ = -1;  // the batch that is assembled, or was last
  int buffer_ = 0;
  int next_part_ = 0, parts_ = 0, running_ = 0;  // parts not yet begun, parts, parts under way
  std::exception_ptr error_;
  int64_t held_ = -1;  // the batch that the user has, and where
  int held_buffer_ = 1;
  bool stop_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace gradc::runtime
