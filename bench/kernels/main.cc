// Times every kernel of the CPU devices at the shapes of SmolLM2-135M, each as a fraction of what
// this machine reached a moment before (first lines of the output). Matrix products are checked
// against the reference before they are timed.
//   of_read   bytes of weights (or KV) a second / DRAM read
//   of_peak   int8 (bfloat16, float32) operations a second / peak
// The weights of one case are many copies, 64 MB together, used in turn: as in a decode step they
// come from DRAM, not from a cache.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "bench/kernels/machine_limits.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/make_ops.h"

namespace tandem::bench {
namespace {

using namespace kernels;  // NOLINT(google-build-using-namespace): a program, not a header

constexpr int kHidden = 576, kQkv = 960, kFfn = 1536, kVocab = 49152, kMaxRows = 512;
constexpr int kHeads = 9, kKvHeads = 3, kHeadDim = 64;

struct Machine {
  MachineLimits limits;
  InstructionSet set = InstructionSet::kAuto;
};
Machine g_machine;  // set once in main, before any benchmark runs

std::unique_ptr<Ops> MakeBenchOps(InstructionSet set, ActivationType activations, int vocab = 0) {
  OpsOptions options;
  options.instruction_set = set;
  options.activations = activations;
  options.max_tokens = kMaxRows;
  options.max_vocab = vocab;
  auto ops = MakeOps(options);
  if (!ops.ok()) {
    fmt::print(stderr, "{}\n", ops.status().ToString());
    std::exit(2);
  }
  return std::move(ops).value();
}

// Blocks with scales near 2^-6 and random quants; floats near 0.02.
std::vector<uint8_t> RandomMatrix(WeightType type, int64_t rows, int64_t cols) {
  std::mt19937 random(1);
  std::vector<uint8_t> data(rows * cols / BlockElements(type) * BlockBytes(type));
  for (size_t i = 0; i < data.size(); i += BlockBytes(type)) {
    if (type == WeightType::kF32) {
      const float value = 0.02f * (static_cast<float>(random() % 1000) / 500 - 1);
      std::memcpy(&data[i], &value, 4);
      continue;
    }
    for (int b = 0; b < BlockBytes(type); ++b) data[i + b] = static_cast<uint8_t>(random());
    const uint16_t scale = 0x2400 | (random() & 0x81ff);
    std::memcpy(&data[i], &scale, 2);
    if (type == WeightType::kBf16) data[i + 1] = static_cast<uint8_t>(0x3c | (random() & 0x80));
    if (type == WeightType::kQ4_1) std::memcpy(&data[i + 2], &scale, 2);
  }
  return data;
}

std::vector<float> RandomFloats(int64_t count) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) v = normal(random);
  return values;
}

struct MatMulCase {
  const char* name;
  WeightType type;
  int64_t n, k;
  bool gate_up;
  ActivationType activations;
};

std::unique_ptr<Weight> PackCase(Ops& ops, const MatMulCase& c, const MatrixSlice& slice) {
  if (!c.gate_up) return ops.Pack({&slice, 1});
  MatrixSlice gate = slice, up = slice;
  gate.row_end = up.row_begin = c.n / 2;
  return ops.PackGateUp(gate, up);
}

void RunCase(Ops& ops, const MatMulCase& c, const Weight& weight, std::vector<float>& x,
             std::vector<float>& out, int64_t rows) {
  const TensorView in(x.data(), rows, c.k);
  if (c.gate_up) {
    ops.GateUp({out.data(), rows, c.n / 2}, in, weight, Activation::kSilu);
  } else {
    ops.MatMul({out.data(), rows, c.n}, in, weight, {});
  }
}

// Relative L2 distance of two rows to the reference.
double Distance(Ops& ops, const MatMulCase& c, const MatrixSlice& slice, std::vector<float> x) {
  const auto reference = MakeBenchOps(InstructionSet::kReference, c.activations);
  std::vector<float> got(2 * c.n), want(2 * c.n);
  RunCase(ops, c, *PackCase(ops, c, slice), x, got, 2);
  RunCase(*reference, c, *PackCase(*reference, c, slice), x, want, 2);
  double error = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(error / norm);
}

void MatMulBench(benchmark::State& state, MatMulCase c) {
  const int64_t rows = state.range(0);
  const auto ops = MakeBenchOps(g_machine.set, c.activations);
  const std::vector<uint8_t> data = RandomMatrix(c.type, c.n, c.k);
  const MatrixSlice slice{c.type, data.data(), c.k, 0, c.n, 0, c.k};
  std::vector<float> x = RandomFloats(rows * c.k), out(rows * c.n);
  if (rows == 1) {
    if (const double d = Distance(*ops, c, slice, RandomFloats(2 * c.k)); !(d < 1e-5)) {
      state.SkipWithError(fmt::format("distance to the reference {}", d).c_str());
      return;
    }
  }
  std::vector<std::unique_ptr<Weight>> copies;
  do {
    copies.push_back(PackCase(*ops, c, slice));
  } while (copies.size() * copies[0]->bytes() < 64 << 20);
  size_t turn = 0;
  for (auto _ : state) {
    RunCase(*ops, c, *copies[turn++ % copies.size()], x, out, rows);
  }
  const bool int8 = c.activations == ActivationType::kInt8 && BlockElements(c.type) > 1;
  const double times = static_cast<double>(state.iterations());
  const MachineLimits& limits = g_machine.limits;
  const bool bf16 = c.type == WeightType::kBf16 && c.activations != ActivationType::kF32 &&
                    limits.bf16_gflop_per_s > 0;
  const double peak = int8   ? limits.int8_gop_per_s
                      : bf16 ? limits.bf16_gflop_per_s
                             : limits.f32_gflop_per_s;
  state.counters["of_read"] = benchmark::Counter(
      times * static_cast<double>(copies[0]->bytes()) / (limits.read_gb_per_s * 1e9),
      benchmark::Counter::kIsRate);
  state.counters["of_peak"] =
      benchmark::Counter(times * 2 * static_cast<double>(rows * c.n * c.k) / (peak * 1e9),
                         benchmark::Counter::kIsRate);
}

// One layer's attention: `sequences` sequences, each with `context` tokens of which the last
// `queries` are computed; the first `shared` are the same ones for all. As weights are, KV is that
// of as many layers as take 64 MB, in turn.
void AttentionBench(benchmark::State& state, KvType type) {
  const int sequences = static_cast<int>(state.range(0));
  const int queries = static_cast<int>(state.range(1)), context = static_cast<int>(state.range(2));
  const int shared_blocks = static_cast<int>(state.range(3)) / 16;
  const auto ops = MakeBenchOps(g_machine.set, ActivationType::kInt8);
  const int blocks = (context + 15) / 16, own_blocks = blocks - shared_blocks;
  KvCacheSpec spec;
  spec.num_blocks = shared_blocks + own_blocks * sequences;
  spec.num_kv_heads = kKvHeads;
  spec.head_dim = kHeadDim;
  spec.type = type;
  spec.num_layers = 1;
  const int64_t layer_bytes = ops->KvBlockBytes(spec) * spec.num_blocks;
  spec.num_layers = static_cast<int>((64 << 20) / layer_bytes + 1);
  const auto kv = ops->MakeKvCache(spec).value();
  const auto rope = ops->MakeRopeTable({.dims = kHeadDim, .theta = 1e5, .max_positions = context});
  std::vector<int32_t> order(spec.num_blocks), table, query_start = {0}, fill_start = {0, 16};
  for (int32_t i = 0; i < spec.num_blocks; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), std::mt19937(3));
  std::vector<float> q = RandomFloats(kMaxRows * kHidden), k = RandomFloats(kMaxRows * kHidden);
  std::vector<float> out(kMaxRows * kHidden);
  const TensorView keys(k.data(), 16, kKvHeads * kHeadDim);
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    for (int32_t block = 0; block < spec.num_blocks; ++block) {
      const int32_t length = 16;
      ops->RopeAndStoreKv({q.data(), 16, kHidden}, keys, keys, {}, *rope, *kv, layer,
                          {16, 1, fill_start.data(), &length, &block, 1});
    }
  }
  for (int s = 0; s < sequences; ++s) {
    query_start.push_back(query_start.back() + queries);
    table.insert(table.end(), order.begin(), order.begin() + shared_blocks);
    const auto own = order.begin() + shared_blocks + int64_t{s} * own_blocks;
    table.insert(table.end(), own, own + own_blocks);
  }
  const std::vector<int32_t> lengths(sequences, context);
  const int rows = query_start.back();
  const StepBatch batch{rows, sequences, query_start.data(), lengths.data(), table.data(), blocks};
  int layer = 0;
  for (auto _ : state) {
    ops->PagedAttention({out.data(), rows, kHidden}, {q.data(), rows, kHidden}, *kv, layer, batch,
                        {.scale = 0.125f});
    layer = (layer + 1) % spec.num_layers;
  }
  const double pairs = static_cast<double>(sequences) * queries * (context - 0.5 * queries);
  const double times = static_cast<double>(state.iterations());
  const bool bf16 = type != KvType::kF32 && g_machine.limits.bf16_gflop_per_s > 0;
  const double peak = bf16 ? g_machine.limits.bf16_gflop_per_s : g_machine.limits.f32_gflop_per_s;
  state.counters["of_read"] = benchmark::Counter(
      times * static_cast<double>(layer_bytes) / (g_machine.limits.read_gb_per_s * 1e9),
      benchmark::Counter::kIsRate);
  state.counters["of_peak"] = benchmark::Counter(
      times * pairs * kHeads * kHeadDim * 4 / (peak * 1e9), benchmark::Counter::kIsRate);
}

void RmsNormBench(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const auto ops = MakeBenchOps(g_machine.set, ActivationType::kInt8);
  std::vector<float> x = RandomFloats(rows * kHidden), zero(rows * kHidden), out(rows * kHidden);
  const std::vector<float> weight = RandomFloats(kHidden);
  for (auto _ : state) {
    ops->AddRmsNorm({out.data(), rows, kHidden}, {x.data(), rows, kHidden},
                    {zero.data(), rows, kHidden}, weight, 1e-5f, nullptr);
  }
  state.SetItemsProcessed(state.iterations() * rows);
}

void SampleBench(benchmark::State& state, SamplingParams params) {
  const auto ops = MakeBenchOps(g_machine.set, ActivationType::kInt8, kVocab);
  std::vector<float> logits = RandomFloats(kVocab);
  for (float& v : logits) v *= 3;
  SampledToken token;
  std::vector<int32_t> tokens(2048), blocks(tokens.size() / 16);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 7919 % kVocab);
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<int32_t>(i);
  const TokenHistory history = {tokens.data(), blocks.data(), 16, 2048, 1024};
  for (auto _ : state) {
    ++params.position;
    ops->Sample({logits.data(), 1, kVocab}, {&params, 1}, {&history, 1}, {&token, 1});
  }
}

void RegisterMatMuls() {
  constexpr ActivationType kInt8 = ActivationType::kInt8, kF32 = ActivationType::kF32;
  const MatMulCase cases[] = {
      {"qkv_q4_1", WeightType::kQ4_1, kQkv, kHidden, false, kInt8},
      {"out_q4_1", WeightType::kQ4_1, kHidden, kHidden, false, kInt8},
      {"gate_up_q4_1", WeightType::kQ4_1, 2 * kFfn, kHidden, true, kInt8},
      {"down_q4_1", WeightType::kQ4_1, kHidden, kFfn, false, kInt8},
      {"gate_up_q4_0", WeightType::kQ4_0, 2 * kFfn, kHidden, true, kInt8},
      {"gate_up_q8_0", WeightType::kQ8_0, 2 * kFfn, kHidden, true, kInt8},
      {"gate_up_q4_1_f32", WeightType::kQ4_1, 2 * kFfn, kHidden, true, kF32},
      {"gate_up_f16", WeightType::kF16, 2 * kFfn, kHidden, true, kF32},
      {"qkv_bf16", WeightType::kBf16, kQkv, kHidden, false, kInt8},
      {"gate_up_bf16", WeightType::kBf16, 2 * kFfn, kHidden, true, kInt8},
      {"down_bf16", WeightType::kBf16, kHidden, kFfn, false, kInt8},
      {"gate_up_f32", WeightType::kF32, 2 * kFfn, kHidden, true, kF32},
  };
  for (const MatMulCase& c : cases) {
    auto* bench = benchmark::RegisterBenchmark(c.name, MatMulBench, c);
    for (int rows : {1, 4, 8, 16, 128, 512}) bench->Arg(rows);
  }
  const MatMulCase logits{"logits_q8_0", WeightType::kQ8_0, kVocab, kHidden, false, kInt8};
  auto* bench = benchmark::RegisterBenchmark(logits.name, MatMulBench, logits);
  for (int rows : {1, 4, 16}) bench->Arg(rows);
}

void RegisterOthers() {
  constexpr std::pair<const char*, KvType> kAttention[] = {{"attention_bf16", KvType::kBf16},
                                                           {"attention_int8", KvType::kInt8},
                                                           {"attention_f32", KvType::kF32}};
  for (const auto& [name, type] : kAttention) {
    auto* bench = benchmark::RegisterBenchmark(name, AttentionBench, type);
    bench->ArgNames({"seqs", "queries", "context", "shared"});
    for (int context : {128, 1024}) bench->Args({1, 1, context, 0})->Args({16, 1, context, 0});
    bench->Args({16, 1, 1152, 1024})->Args({1, 128, 128, 0})->Args({1, 256, 2048, 0});
  }
  benchmark::RegisterBenchmark("add_rms_norm", RmsNormBench)->Arg(1)->Arg(128);
  benchmark::RegisterBenchmark("sample_greedy", SampleBench, SamplingParams{});
  benchmark::RegisterBenchmark("sample_logprobs", SampleBench, SamplingParams{.num_logprobs = 20});
  benchmark::RegisterBenchmark("sample_penalized", SampleBench,
                               SamplingParams{.repetition_penalty = 1.1f});
  benchmark::RegisterBenchmark("sample_temperature", SampleBench, SamplingParams{.temperature = 1});
  benchmark::RegisterBenchmark("sample_top_p", SampleBench,
                               SamplingParams{.temperature = 1, .top_p = 0.95f});
}

struct Arguments {
  std::string instruction_set = "auto";
  bool limits = false;  // only what the machine can do, as JSON
  int threads = 1;      // of the limits; kernels are timed on one
};

// Takes ours out of the command line; the others are for the benchmark library.
Arguments TakeArguments(int& argc, char** argv) {
  constexpr std::string_view kThreads = "--threads=", kSet = "--instruction-set=";
  Arguments args;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg.starts_with(kSet)) {
      args.instruction_set = arg.substr(kSet.size());
    } else if (arg == "--limits") {
      args.limits = true;
    } else if (arg.starts_with(kThreads)) {
      args.threads = std::atoi(argv[i] + kThreads.size());
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  return args;
}

void PrintLimits(const MachineLimits& limits, const std::string& set, const Arguments& args) {
  if (args.limits) {
    fmt::print(
        "{{\"instruction_set\": \"{}\", \"threads\": {}, \"read_gb_per_s\": {:.2f}, "
        "\"int8_gop_per_s\": {:.1f}, \"f32_gflop_per_s\": {:.1f}, \"bf16_gflop_per_s\": {}}}\n",
        set, args.threads, limits.read_gb_per_s, limits.int8_gop_per_s, limits.f32_gflop_per_s,
        limits.bf16_gflop_per_s > 0 ? fmt::format("{:.1f}", limits.bf16_gflop_per_s) : "null");
    return;
  }
  fmt::print("{}, one thread: read {:.1f} GB/s, int8 {:.0f} GOP/s, float32 {:.0f} GFLOP/s", set,
             limits.read_gb_per_s, limits.int8_gop_per_s, limits.f32_gflop_per_s);
  if (limits.bf16_gflop_per_s > 0) {
    fmt::print(", bfloat16 {:.0f} GFLOP/s", limits.bf16_gflop_per_s);
  }
  fmt::print("\n");
}

}  // namespace
}  // namespace tandem::bench

// Beside the flags of the benchmark library:
//   --instruction-set=S  as in the cluster file; default: the best there is
//   --limits             only the machine's limits, as JSON; --threads=N: of N threads together
int main(int argc, char** argv) {
  auto& machine = tandem::bench::g_machine;
  const tandem::bench::Arguments args = tandem::bench::TakeArguments(argc, argv);
  const auto set = tandem::kernels::ParseInstructionSet(args.instruction_set);
  if (!set.ok()) {
    fmt::print(stderr, "{}\n", tandem::Message(set.status()));
    return 2;
  }
  machine.set = *set;
  // Ends the program where this CPU lacks it.
  const std::string name =
      tandem::bench::MakeBenchOps(*set, tandem::kernels::ActivationType::kInt8)->name();
  if (args.threads < 1 || args.threads > 1024 || (args.threads > 1 && !args.limits)) {
    fmt::print(stderr, "--threads=N: 1 to 1024, with --limits\n");
    return 2;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  machine.limits = tandem::bench::MeasureLimits(name.starts_with("avx512"), args.threads);
  tandem::bench::PrintLimits(machine.limits, name, args);
  if (args.limits) return 0;
  tandem::bench::RegisterMatMuls();
  tandem::bench::RegisterOthers();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
