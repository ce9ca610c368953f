// Too little memory, wherever it runs out: an error that a user can mend, never an internal one.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <new>
#include <system_error>

#include "harness.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::testing::out_of_memory_test {
namespace {

constexpr rlim_t kPage = 4096;
constexpr int kSuccesses = 40;  // around the first of them mapping code fails, which was an internal error

void compile() {
  loop::Kernel k = loop::make_kernel("increment");
  loop::Builder b(k);
  const loop::Buffer y = b.buffer("y", loop::Scalar::f32, loop::Access::read_write, 4);
  b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1, [&](const loop::Expr& i) {
    b.store(y, i, loop::load(y, i) + loop::constant({loop::Scalar::f32, 1}, 1));
  });
  const loop::Program p = one_call(k, 100, 1);
  const codegen::Jit jit({&p}, native());
}

// Compiles with so many bytes of address space left; the exit code that the tool would have.
int compile_within(rlim_t left) {
  const pid_t child = fork();
  if (child == 0) {
    if (!std::freopen("/dev/null", "w", stderr)) _exit(kExitInternal);  // hundreds say the same
    rlim_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlimit limit{pages * kPage + left, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &limit);
    int code = kExitOk;
    try {
      compile();
    } catch (const RunError& error) {
      code = error.exit_code;
    } catch (const std::bad_alloc&) {
      code = kExitRunFailed;
    } catch (const std::system_error&) {
      code = kExitRunFailed;
    } catch (const std::exception& error) {
      printf("%llu bytes: %s\n", static_cast<unsigned long long>(left), error.what());
      fflush(stdout);
      code = kExitInternal;
    }
    _exit(code);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(OutOfMemory, IsNoInternalError) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers reserve terabytes of address space";
#endif
  compile();  // what is made once is there before
  int failed = 0, succeeded = 0;
  for (rlim_t left = 0; left < (rlim_t{32} << 20) && succeeded < kSuccesses; left += kPage) {
    const int code = compile_within(left);
    code == kExitOk ? ++succeeded : ++failed;
    ASSERT_TRUE(code == kExitOk || code == kExitRunFailed) << code << " with " << left << " bytes";
  }
  EXPECT_GT(failed, 0);
  EXPECT_EQ(succeeded, kSuccesses);
}

}  // namespace
}  // namespace gradc::testing::out_of_memory_test
