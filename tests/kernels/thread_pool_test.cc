#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <vector>

namespace tandem::kernels::cpu {
namespace {

TEST(ThreadPool, EveryIndexRunsOncePerCall) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    std::vector<int> counts(threads);  // each index writes its own
    for (int call = 1; call <= 500; ++call) {
      pool.Run([&](int i) { ++counts[i]; });
      for (int i = 0; i < threads; ++i) ASSERT_EQ(counts[i], call) << i << " of " << threads;
    }
  }
}

TEST(ThreadPool, WorkIsSeenByTheNextCall) {
  ThreadPool pool(3);
  std::vector<int> value(3);
  for (int call = 0; call < 300;
       ++call) {  // each reads what its neighbour wrote in the call before
    std::vector<int> next(3);
    pool.Run([&](int i) { next[i] = value[(i + 1) % 3] + 1; });
    value = next;
  }
  EXPECT_EQ(value, (std::vector<int>{300, 300, 300}));
}

TEST(ThreadPool, EndsWithoutEverRunning) { ThreadPool pool(4); }

}  // namespace
}  // namespace tandem::kernels::cpu
