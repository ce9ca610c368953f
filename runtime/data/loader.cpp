// One mutex and two condition variables: there is work, and a batch is complete.
#include "runtime/data/loader.h"

#include <fmt/format.h>

#include <system_error>
#include <utility>

#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {

namespace {

constexpr int kChunksPerThread = 4;  // so that a slow chunk does not leave the other threads idle

}  // namespace

Loader::Loader(int threads, Assemble assemble)
    : assemble_(std::move(assemble)), chunks_of_batch_(threads == 1 ? 1 : threads * kChunksPerThread) {
  GRADC_CHECK(threads >= 1, "{} threads", threads);
  try {
    for (int i = 0; i < threads; ++i) workers_.emplace_back([this] { worker(); });
  } catch (const std::system_error& error) {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    work_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    throw RunError(kExitRunFailed,
                   fmt::format("cannot start a thread that loads data: {}; use fewer (--threads)",
                               error.code().message()));
  }
}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    next_chunk_ = chunks_;
    stop_ = true;
  }
  work_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Loader::worker() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [&] { return stop_ || next_chunk_ < chunks_; });
    if (stop_) return;
    const int chunk = next_chunk_++;
    const int64_t index = index_;
    const int buffer = buffer_;
    ++running_;
    lock.unlock();
    std::exception_ptr error;
    try {
      assemble_(index, chunk, chunks_of_batch_, buffer);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    --running_;
    if (error && !error_) error_ = error;
    if (idle()) ready_.notify_all();
  }
}

void Loader::begin(int64_t index, int buffer) {
  index_ = index;
  buffer_ = buffer;
  next_chunk_ = 0;
  chunks_ = chunks_of_batch_;
  work_.notify_all();
}

void Loader::start(int64_t index) {
  const std::lock_guard lock(mutex_);
  if (index == held_ || index == index_) return;
  GRADC_CHECK(idle(), "a batch is begun while another is under way");
  begin(index, 1 - held_buffer_);
}

int Loader::fetch(int64_t index, int64_t next) {
  std::unique_lock lock(mutex_);
  if (index != held_) {
    if (index != index_) {
      // Not the batch that was expected: drop the one in progress.
      next_chunk_ = chunks_;
      ready_.wait(lock, [&] { return idle(); });
      begin(index, 1 - held_buffer_);
    }
    ready_.wait(lock, [&] { return idle(); });
    if (error_) {
      index_ = -1;
      std::rethrow_exception(std::exchange(error_, nullptr));
    }
    held_ = index;
    held_buffer_ = buffer_;
  }
  if (next >= 0 && next != held_ && next != index_ && idle()) begin(next, 1 - held_buffer_);
  return held_buffer_;
}

void Loader::cancel() {
  std::unique_lock lock(mutex_);
  next_chunk_ = chunks_;
  ready_.wait(lock, [&] { return idle(); });
  index_ = held_ = -1;
  error_ = nullptr;
}

}  // namespace gradc::runtime
