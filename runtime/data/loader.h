// Assembles the next batch while the last one is used. Knows nothing of what batches hold.
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

// Two buffers and some threads. One thread uses the loader; the buffer that fetch() returns does not change until the
// next fetch(). The bits do not depend on the number of threads, since every chunk of a batch is assembled
// independently.
class Loader {
 public:
  // assemble(index, chunk, chunks, buffer) fills one chunk of batch `index` in buffer 0 or 1; it may throw.
  // Throws RunError (kExitRunFailed) when the threads cannot be started.
  using Assemble = std::function<void(int64_t index, int chunk, int chunks, int buffer)>;
  Loader(int threads, Assemble assemble);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // Starts a batch, unless it is complete or in progress.
  void start(int64_t index);
  // Waits for the batch and returns the buffer that holds it, then starts `next` (-1: nothing). Throws what assemble()
  // threw.
  int fetch(int64_t index, int64_t next);
  // Drops all batches and waits until no thread assembles. To be called before the data that assemble() reads change.
  void cancel();

 private:
  void worker();
  void begin(int64_t index, int buffer);  // with the mutex
  bool idle() const { return running_ == 0 && next_chunk_ == chunks_; }

  const Assemble assemble_;
  const int chunks_of_batch_;
  std::mutex mutex_;
  std::condition_variable work_, ready_;
  int64_t index_ = -1;  // the batch in progress, or the last one
  int buffer_ = 0;
  int next_chunk_ = 0, chunks_ = 0, running_ = 0;  // first chunk not yet begun, chunks, chunks in progress
  std::exception_ptr error_;
  int64_t held_ = -1;  // the batch that the user has, and where
  int held_buffer_ = 1;
  bool stop_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace gradc::runtime
