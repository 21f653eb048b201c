// Ranks that cannot fit are refused with what to lower, and none that could.
#include "worker/model/memory_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "kernels/make_ops.h"
#include "tests/support/fork_rank.h"
#include "tests/worker/model/tiny_sequences.h"
#include "worker/model/llama_weights.h"

namespace tandem::model {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

std::string Refusal(int64_t weights, int64_t kv, const UsableMemory& usable) {
  const Status status = CheckMemory(3, weights * kMiB, kv * kMiB, usable);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  return std::string(Message(status));
}

TEST(MemoryCheck, SaysWhichLimitAndWhatToLower) {
  const UsableMemory machine = {.ram_bytes = 1000 * kMiB};
  EXPECT_TRUE(CheckMemory(0, 400 * kMiB, 600 * kMiB, machine).ok());
  EXPECT_EQ(Refusal(0, 1001, machine),
            "rank 3's part of kv_memory is 1001 MiB, and this machine has 1000 MiB; lower "
            "groups[].kv_memory");
  const UsableMemory cgroup = {.ram_bytes = 1000 * kMiB, .of_cgroup = true};
  EXPECT_EQ(Refusal(401, 600, cgroup),
            "rank 3's weights take 401 MiB or more and its part of kv_memory 600 MiB, and this "
            "process's cgroup has 1000 MiB; lower groups[].kv_memory");
  EXPECT_THAT(Refusal(1001, 1, cgroup), HasSubstr("rank 3's weights take 1001 MiB or more"));
  EXPECT_THAT(Refusal(1001, 1, cgroup),
              HasSubstr("this process's cgroup has 1000 MiB; give it more"));
}

TEST(MemoryCheck, WeightsMayBeInSwapAndTheKvCacheNot) {
  const UsableMemory usable = {.ram_bytes = 1000 * kMiB, .swap_bytes = 500 * kMiB};
  EXPECT_TRUE(CheckMemory(0, 900 * kMiB, 600 * kMiB, usable).ok());
  EXPECT_THAT(Refusal(901, 600, usable), HasSubstr("1000 MiB and 500 MiB of swap; lower"));
  EXPECT_THAT(Refusal(0, 1001, usable), HasSubstr("part of kv_memory is 1001 MiB"));
}

TEST(MemoryCheck, ACgroupWithLessThanTheMachineIsTheLimit) {
  const tandem::testing::TempFolder root;
  const std::filesystem::path folder = root.path();
  const UsableMemory machine = ReadUsableMemory(root.path());
  EXPECT_GT(machine.ram_bytes, 0);
  EXPECT_FALSE(machine.of_cgroup);
  std::filesystem::create_directories(folder / "proc/self");
  std::filesystem::create_directories(folder / "sys/fs/cgroup/pod/worker");
  std::ofstream(folder / "proc/self/cgroup") << "0::/pod/worker\n";
  std::ofstream(folder / "sys/fs/cgroup/pod/worker/memory.max") << "max\n";
  std::ofstream(folder / "sys/fs/cgroup/pod/memory.max") << 64 * kMiB << "\n";
  std::ofstream(folder / "sys/fs/cgroup/pod/memory.swap.max") << "0\n";
  const UsableMemory limited = ReadUsableMemory(root.path());
  EXPECT_EQ(limited.ram_bytes, 64 * kMiB);
  EXPECT_EQ(limited.swap_bytes, 0);
  EXPECT_TRUE(limited.of_cgroup);
  EXPECT_THAT(Refusal(0, 65, limited), HasSubstr("this process's cgroup has 64 MiB; lower"));
}

int64_t PackedBytes(const LlamaWeights& weights) {
  int64_t bytes = weights.output == nullptr ? 0 : weights.output->bytes();
  for (const LlamaLayer& layer : weights.layers) {
    bytes += layer.qkv->bytes() + layer.o->bytes();
    for (const FeedForwardWeights& ffn : layer.ffn) {
      bytes += ffn.gate_up->bytes() + ffn.down->bytes();
    }
  }
  return bytes;
}

// Of every type that is packed, for every kind of activations, on every rank.
TEST(MemoryCheck, PackedWeightsTakeNoLessThanIsCounted) {
  using gguf::TensorType;
  for (const TensorType type : {TensorType::kF32, TensorType::kF16, TensorType::kBf16,
                                TensorType::kQ4_0, TensorType::kQ4_1, TensorType::kQ8_0}) {
    tandem::testing::TinyModelOptions tiny;
    tiny.type = type;
    const ModelFile file(tiny);
    const auto source = ModelSource::Open(file.path());
    ASSERT_TRUE(source.ok()) << Message(source.status());
    for (const auto activations : {kernels::ActivationType::kInt8, kernels::ActivationType::kBf16,
                                   kernels::ActivationType::kF32}) {
      for (const int tp : {1, 3}) {
        const auto shards = MakeShardLayout((*source)->config(), tp);
        ASSERT_TRUE(shards.ok());
        for (int rank = 0; rank < tp; ++rank) {
          const RankShard& shard = (*shards)[static_cast<size_t>(rank)];
          kernels::OpsOptions options;
          options.activations = activations;
          const auto ops = kernels::MakeOps(options);
          ASSERT_TRUE(ops.ok());
          const int64_t packed = PackedBytes(LoadLlamaWeights(**source, shard, rank, **ops));
          const int64_t least = LeastWeightBytes(**source, shard);
          EXPECT_GT(least, 0);
          EXPECT_GE(packed, least) << static_cast<int>(type) << ", rank " << rank << " of " << tp;
          if (activations == kernels::ActivationType::kInt8 && tp == 1) {
            EXPECT_LT(packed, least * 3 / 2) << static_cast<int>(type);  // none is forgotten
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace tandem::model
