// Three launches, whatever the rows ask for:
//   1 SampleTop   blocks of 4096 ids: the greatest keys of each; all that greedy rows need. Of
//                 adjusted rows, how often the sequence has each of these ids
//   2 SampleMass  blocks of 16384 ids: masses for a draw and for logprobs; bins where top_k or
//   top_p
//                 cut the row
//   3 SamplePick  a block a row: collects, cuts, draws
// Which ids a block has depends on nothing but V, and masses are integers (sample_row.cuh), so a
// row's token does not depend on other rows.
#include <cmath>

#include "common/check.h"
#include "common/round.h"
#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/sample_cut.cuh"
#include "kernels/cuda/sample_row.cuh"
#include "kernels/rng.h"

namespace tandem::kernels::cuda {
namespace {

constexpr int kTopThreads = 256, kTopIds = 16;  // ids a thread
constexpr int kTopChunk = kTopThreads * kTopIds;
constexpr int kMassThreads = 256;
constexpr int kMassChunk = 16384;
constexpr int kMaxMassChunks = kMaxVocab / kMassChunk;
constexpr int kPickIds = kMassChunk / kPickThreads;

// Where launches leave things for the next, for all rows.
struct Scratch {
  Word* keys;           // [S, top_chunks, kMaxTopLogprobs] as the model has them
  Word* draw_keys;      // [S, top_chunks] the greatest as drawn from; of adjusted rows
  Word* log_mass;       // [S, mass_chunks] at temperature 1
  Word* draw_mass;      // [S, mass_chunks] of what min_p keeps; of rows without top_k and top_p
  Word* bin_mass;       // [S, mass_chunks, kBins] of rows with them
  uint32_t* bin_count;  // [S, mass_chunks, kBins]
  uint16_t* counts;     // [S, V] see kInPrompt; of adjusted rows
  int top_chunks;
  int mass_chunks;
};

struct SampleArgs {
  Logits logits;
  const SampleRow* rows;
  SampledToken* out;
  int32_t* last_sampled;
  Scratch scratch;
  Batch batch;
};

__device__ bool IsCut(const SamplingParams& params, int32_t vocab) {
  return (params.top_k > 0 && params.top_k < vocab) || params.top_p < 1;
}
__device__ bool IsDrawn(const SamplingParams& params, float max) {
  return params.temperature > 0 && params.forced_token < 0 && isfinite(max);
}
__device__ Scale DrawScale(const SamplingParams& params, float max) {
  return {max, 1.0f / fmaxf(params.temperature, 1e-6f)};
}
// As they are drawn from: with biases, penalties and mask. Valid after SampleTop.
__device__ RowLogits DrawLogits(const SampleArgs& args, int row, const SamplingParams& params) {
  if (!params.adjusted()) return {args.logits, row};
  return {args.logits, row, params, args.scratch.counts + int64_t{row} * args.logits.vocab};
}
// Keys of each chunk that a row needs.
__device__ int NumKeys(const SamplingParams& params) {
  return min(max(params.num_logprobs, 1), kMaxTopLogprobs);
}

// Calls emit(i, key) with the `count` greatest of the block's keys in descending order, in every
// thread; 0 when there are no more. `keys`: of this thread, 0 for none.
template <int kItems, class Emit>
__device__ void ForGreatestKeys(const Word (&keys)[kItems], int count, Word* shared, Emit emit) {
  Word best = 0;
#pragma unroll
  for (Word key : keys) best = key > best ? key : best;
  for (int i = 0; i < count; ++i) {
    const Word greatest = BlockMax(best, shared);
    emit(i, greatest);
    if (greatest != best) continue;
    best = 0;  // it was this thread's: its next one
#pragma unroll
    for (Word key : keys) best = key < greatest && key > best ? key : best;
  }
}

constexpr uint32_t kPromptBit = 0x80000000u, kBiasBit = 0x40000000u;  // beside a count

// Counts in `counts`, [kTopChunk], how often the row's sequence has each id of the chunk. All are 0
// before.
__device__ void CountTokens(const Batch& batch, const SampleRow& row, int chunk, uint32_t* counts) {
  const int32_t* const blocks = batch.block_table + batch.first_block[row.sequence];
  const int32_t length = batch.context_len[row.sequence];
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < length; i += kTopThreads) {
    const int64_t block = blocks[i / batch.block_size];
    const int32_t id = batch.block_tokens[block * batch.block_size + i % batch.block_size];
    const int32_t within = id - chunk * kTopChunk;
    if (within < 0 || within >= kTopChunk) continue;
    if (i < row.num_prompt_tokens) {
      atomicOr(&counts[within], kPromptBit);
    } else {
      atomicAdd(&counts[within], 1u);
    }
  }
}

__device__ void MarkBiases(const SamplingParams& params, int chunk, uint32_t* counts) {
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < params.num_biases; i += kTopThreads) {
    const int32_t within = params.biases[i].token - chunk * kTopChunk;
    if (within >= 0 && within < kTopChunk) atomicOr(&counts[within], kBiasBit);
  }
}

// The greatest key of the chunk as drawn from, and the counts for the launches that follow.
__device__ void AdjustedTop(const SampleArgs& args, int row, int chunk, uint32_t* counts,
                            Word* shared) {
  const SampleRow& sample = args.rows[row];
  for (int i = static_cast<int>(threadIdx.x); i < kTopChunk; i += kTopThreads) counts[i] = 0;
  __syncthreads();
  if (sample.params.penalized()) CountTokens(args.batch, sample, chunk, counts);
  MarkBiases(sample.params, chunk, counts);
  __syncthreads();
  uint16_t* const out = args.scratch.counts + int64_t{row} * args.logits.vocab;
  const RowLogits logits(args.logits, row, sample.params, out);  // reads what this thread wrote
  Word best = 0;
  for (int i = static_cast<int>(threadIdx.x); i < kTopChunk; i += kTopThreads) {
    const int32_t id = chunk * kTopChunk + i;
    if (id >= args.logits.vocab) break;
    const uint32_t times = min(counts[i] & ~(kPromptBit | kBiasBit), kMostTimes);
    const uint32_t count = times | ((counts[i] & kPromptBit) != 0 ? kInPrompt : 0) |
                           ((counts[i] & kBiasBit) != 0 ? kBiased : 0);
    out[id] = static_cast<uint16_t>(count);
    best = max(best, KeyOf(logits(id), id));
  }
  best = BlockMax(best, shared);
  if (threadIdx.x == 0) {
    args.scratch.draw_keys[int64_t{row} * args.scratch.top_chunks + chunk] = best;
  }
}

__global__ void __launch_bounds__(kTopThreads)
    SampleTopKernel(const __grid_constant__ SampleArgs args) {
  TANDEM_SHARED(Word, shared, [kMaxWarps]);
  TANDEM_SHARED(uint32_t, counts, [kTopChunk]);
  DependentLaunchWait();
  DependentLaunchTrigger();
  const int row = static_cast<int>(blockIdx.y), chunk = static_cast<int>(blockIdx.x);
  if (args.rows[row].slot < 0) return;
  const RowLogits logits(args.logits, row);
  Word keys[kTopIds];
#pragma unroll
  for (int i = 0; i < kTopIds; ++i) {
    const int32_t id = chunk * kTopChunk + i * kTopThreads + static_cast<int32_t>(threadIdx.x);
    keys[i] = id < logits.vocab() ? KeyOf(logits(id), id) : 0;
  }
  Word* const out =
      args.scratch.keys + (int64_t{row} * args.scratch.top_chunks + chunk) * kMaxTopLogprobs;
  ForGreatestKeys(keys, NumKeys(args.rows[row].params), shared, [&](int i, Word key) {
    if (threadIdx.x == 0) out[i] = key;
  });
  if (args.rows[row].params.adjusted()) AdjustedTop(args, row, chunk, counts, shared);
}

// The greatest of a row's `keys`, `stride` from one chunk to the next, in every lane of the warp.
__device__ Word GreatestKey(const Scratch& scratch, const Word* keys, int stride, int row) {
  Word best = 0;
  for (int chunk = threadIdx.x % kWarp; chunk < scratch.top_chunks; chunk += kWarp) {
    best = max(best, keys[(int64_t{row} * scratch.top_chunks + chunk) * stride]);
  }
  return WarpMax(best);
}
// As drawn from: what greedy rows take.
__device__ Word GreatestDrawKey(const Scratch& scratch, const SamplingParams& params, int row) {
  return params.adjusted() ? GreatestKey(scratch, scratch.draw_keys, 1, row)
                           : GreatestKey(scratch, scratch.keys, kMaxTopLogprobs, row);
}

__global__ void __launch_bounds__(kMassThreads)
    SampleMassKernel(const __grid_constant__ SampleArgs args) {
  TANDEM_SHARED(Word, shared, [kMaxWarps]);
  TANDEM_SHARED(Word, bin_mass, [kBins]);
  TANDEM_SHARED(uint32_t, bin_count, [kBins]);
  static_assert(kBins == kMassThreads);
  DependentLaunchWait();
  DependentLaunchTrigger();
  const int row = static_cast<int>(blockIdx.y), chunk = static_cast<int>(blockIdx.x);
  if (args.rows[row].slot < 0) return;
  const SamplingParams& params = args.rows[row].params;
  const float draw_max = LogitOf(GreatestDrawKey(args.scratch, params, row));
  const float log_max = LogitOf(GreatestKey(args.scratch, args.scratch.keys, kMaxTopLogprobs, row));
  const bool drawn = IsDrawn(params, draw_max);
  const bool logged = params.num_logprobs >= 0 && isfinite(log_max);
  if (!drawn && !logged) return;
  const RowLogits logits(args.logits, row), draw_logits = DrawLogits(args, row, params);
  const bool cut = drawn && IsCut(params, logits.vocab());
  const Scale draw = DrawScale(params, draw_max), log{log_max, 1};

  bin_mass[threadIdx.x] = 0;
  bin_count[threadIdx.x] = 0;
  __syncthreads();
  Word log_mass = 0, draw_mass = 0;
  const int32_t end = min((chunk + 1) * kMassChunk, logits.vocab());
  for (int32_t id = chunk * kMassChunk + static_cast<int32_t>(threadIdx.x); id < end;
       id += kMassThreads) {
    if (logged) log_mass += MassOf(log.Probability(logits(id)));
    if (!drawn) continue;
    const float logit = draw_logits(id);
    const float probability = draw.Probability(logit);
    const Word mass = MassOf(probability);
    if (cut) {
      const int bin = BinOf(draw, logit);
      atomicAdd(&bin_count[bin], 1u);
      if (mass > 0) atomicAdd(&bin_mass[bin], mass);
    } else if (probability >= params.min_p) {
      draw_mass += mass;
    }
  }
  log_mass = BlockSum(log_mass, shared);
  draw_mass = BlockSum(draw_mass, shared);
  const int64_t place = int64_t{row} * args.scratch.mass_chunks + chunk;
  if (threadIdx.x == 0) {
    args.scratch.log_mass[place] = log_mass;
    args.scratch.draw_mass[place] = draw_mass;
  }
  if (cut) {
    args.scratch.bin_mass[place * kBins + threadIdx.x] = bin_mass[threadIdx.x];
    args.scratch.bin_count[place * kBins + threadIdx.x] = bin_count[threadIdx.x];
  }
}

// What SamplePick's block shares.
struct PickShared {
  Word* words;  // [kMaxWarps] for reductions
  Word* chunk_mass;
  Bins row_bins;  // kBins
  CutShared cut;
};

// The sum of a chunk of what is kept; see Kept.
struct Kept {
  Word lowest_key;
  float min_p;
  Scale scale;

  __device__ Word Mass(float logit, int32_t id) const {
    if (KeyOf(logit, id) < lowest_key) return 0;
    const float probability = scale.Probability(logit);
    return probability < min_p ? 0 : MassOf(probability);
  }
};

// Keys below the one that is returned are cut by top_k and top_p. The row's bins are collected from
// its chunks first.
__device__ Word LowestKept(const SampleArgs& args, int row, const SamplingParams& params,
                           const RowLogits& logits, const Scale& scale, const PickShared& shared) {
  const int64_t first = int64_t{row} * args.scratch.mass_chunks;
  Word mass = 0;
  for (int bin = static_cast<int>(threadIdx.x); bin < kBins; bin += kPickThreads) {
    Word bin_mass = 0;
    uint32_t count = 0;
    for (int chunk = 0; chunk < args.scratch.mass_chunks; ++chunk) {
      bin_mass += args.scratch.bin_mass[(first + chunk) * kBins + bin];
      count += args.scratch.bin_count[(first + chunk) * kBins + bin];
    }
    shared.row_bins.mass[bin] = bin_mass;
    shared.row_bins.count[bin] = count;
    mass += bin_mass;
  }
  Cut cut{0, BlockSum(mass, shared.words)};
  if (params.top_k > 0 && params.top_k < logits.vocab()) {
    cut = FindCut(logits, scale, shared.row_bins, static_cast<Word>(params.top_k), CutBy::kCount,
                  shared.words, shared.cut);
  }
  if (params.top_p < 1) {
    const double wanted = ceil(static_cast<double>(params.top_p) * static_cast<double>(cut.mass));
    const Word target = min(max(static_cast<Word>(wanted), Word{1}), cut.mass);
    const Cut by_mass =
        FindCut(logits, scale, shared.row_bins, target, CutBy::kMass, shared.words, shared.cut);
    cut.lowest_key = max(cut.lowest_key, by_mass.lowest_key);
  }
  return cut.lowest_key;
}

// Masses of what is kept, a chunk each, into shared.chunk_mass.
__device__ void KeptMasses(const SampleArgs& args, const RowLogits& logits, const Kept& kept,
                           const PickShared& shared) {
  for (int chunk = 0; chunk < args.scratch.mass_chunks; ++chunk) {
    Word mass = 0;
    const int32_t end = min((chunk + 1) * kMassChunk, logits.vocab());
    for (int32_t id = chunk * kMassChunk + static_cast<int32_t>(threadIdx.x); id < end;
         id += kPickThreads) {
      mass += kept.Mass(logits(id), id);
    }
    mass = BlockSum(mass, shared.words);
    if (threadIdx.x == 0) shared.chunk_mass[chunk] = mass;
  }
}

// The first id at which the masses up to it exceed u times their total, in ascending order of ids.
// Exactly one thread finds it and calls found(id).
template <class Found>
__device__ void Invert(const SampleArgs& args, const RowLogits& logits, const Kept& kept, double u,
                       const PickShared& shared, Found found) {
  Word total = 0;
  for (int i = 0; i < args.scratch.mass_chunks; ++i) total += shared.chunk_mass[i];
  Word target = min(static_cast<Word>(u * static_cast<double>(total)), total - 1);
  int chunk = 0;
  for (; shared.chunk_mass[chunk] <= target; ++chunk) target -= shared.chunk_mass[chunk];

  const int32_t begin = chunk * kMassChunk + static_cast<int32_t>(threadIdx.x) * kPickIds;
  const int32_t end = min(begin + kPickIds, logits.vocab());
  Word own = 0;
  for (int32_t id = begin; id < end; ++id) own += kept.Mass(logits(id), id);
  Word before = BlockSumBefore(own, shared.words);
  if (before > target || before + own <= target) return;
  int32_t id = begin;
  for (;; ++id) {
    before += kept.Mass(logits(id), id);
    if (before > target) break;
  }
  found(id);
}

// The token of a row that is drawn, left in *token by one thread.
__device__ void Draw(const SampleArgs& args, int row, const SamplingParams& params, float max,
                     const PickShared& shared, int32_t* token) {
  const RowLogits logits = DrawLogits(args, row, params);
  Kept kept{0, params.min_p, DrawScale(params, max)};
  if (IsCut(params, logits.vocab())) {
    kept.lowest_key = LowestKept(args, row, params, logits, kept.scale, shared);
    KeptMasses(args, logits, kept, shared);
  } else if (static_cast<int>(threadIdx.x) < args.scratch.mass_chunks) {
    shared.chunk_mass[threadIdx.x] =
        args.scratch.draw_mass[int64_t{row} * args.scratch.mass_chunks + threadIdx.x];
  }
  __syncthreads();
  const double u = UniformDraw(params.seed, params.sequence_index, params.position);
  Invert(args, logits, kept, u, shared, [&](int32_t id) { *token = id; });
}

// Natural logarithm of the sum of exp(logit - max).
__device__ double LogSum(const Scratch& scratch, int row) {
  Word mass = 0;
  for (int i = 0; i < scratch.mass_chunks; ++i) {
    mass += scratch.log_mass[int64_t{row} * scratch.mass_chunks + i];
  }
  return log(static_cast<double>(mass) / static_cast<double>(kMassOfOne));
}

__global__ void __launch_bounds__(kPickThreads)
    SamplePickKernel(const __grid_constant__ SampleArgs args) {
  TANDEM_SHARED(Word, words, [kMaxWarps]);
  TANDEM_SHARED(Word, chunk_mass, [kMaxMassChunks]);
  TANDEM_SHARED(Word, row_mass, [kBins]);
  TANDEM_SHARED(uint32_t, row_count, [kBins]);
  TANDEM_SHARED(Word, cut_mass, [kCutBins]);
  TANDEM_SHARED(uint32_t, cut_count, [kCutBins]);
  TANDEM_SHARED(Crossing, crossing, [1]);
  TANDEM_SHARED(int32_t, token, [1]);
  TANDEM_SHARED(Word, top, [kMaxTopLogprobs]);
  DependentLaunchWait();
  DependentLaunchTrigger();
  const int row = static_cast<int>(blockIdx.x);
  const int32_t slot = args.rows[row].slot;
  if (slot < 0) return;
  const SamplingParams& params = args.rows[row].params;
  const PickShared shared{
      words, chunk_mass, {row_mass, row_count}, {{cut_mass, cut_count}, crossing}};

  // The chunks' greatest keys: at most 64 chunks of 20.
  const int num_keys = NumKeys(params);
  constexpr int kItems = CeilDiv(kMaxVocab / kTopChunk * kMaxTopLogprobs, kPickThreads);
  Word keys[kItems];
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const int index = static_cast<int>(threadIdx.x) + i * kPickThreads;
    const int chunk = index / num_keys;
    keys[i] =
        chunk < args.scratch.top_chunks
            ? args.scratch.keys[(int64_t{row} * args.scratch.top_chunks + chunk) * kMaxTopLogprobs +
                                index % num_keys]
            : 0;
  }
  ForGreatestKeys(keys, num_keys, words, [&](int i, Word key) {
    if (threadIdx.x == 0) top[i] = key;
  });
  __syncthreads();
  const Word draw_key = GreatestDrawKey(args.scratch, params, row);
  if (IsDrawn(params, LogitOf(draw_key))) {
    Draw(args, row, params, LogitOf(draw_key), shared, token);
  } else if (threadIdx.x == 0) {
    token[0] = params.forced_token >= 0 ? params.forced_token : IdOf(draw_key);
  }
  __syncthreads();

  SampledToken& out = args.out[row];
  const int num_top = min(max(params.num_logprobs, 0), min(args.logits.vocab, kMaxTopLogprobs));
  const bool logged = params.num_logprobs >= 0;
  const float greatest = LogitOf(top[0]);
  const double log_sum = !logged ? 0 : isfinite(greatest) ? LogSum(args.scratch, row) : NAN;
  if (threadIdx.x == 0) {
    out.token = token[0];
    args.last_sampled[slot] = token[0];
    const float logit = RowLogits(args.logits, row)(token[0]);
    out.logprob =
        logged ? static_cast<float>(static_cast<double>(logit) - greatest - log_sum) : 0.0f;
    out.num_top = num_top;
  }
  if (threadIdx.x < kMaxTopLogprobs) {
    const int i = static_cast<int>(threadIdx.x);
    const Word key = i < num_top ? top[i] : 0;
    out.top_ids[i] = i < num_top ? IdOf(key) : 0;
    out.top_logprobs[i] =
        i < num_top ? static_cast<float>(static_cast<double>(LogitOf(key)) - greatest - log_sum)
                    : 0.0f;
  }
}

// The parts of scratch memory one after the other, the wider ones first.
Scratch Divide(void* memory, int64_t rows, int32_t vocab, int64_t* bytes) {
  Scratch scratch{};
  scratch.top_chunks = CeilDiv(vocab, kTopChunk);
  scratch.mass_chunks = CeilDiv(vocab, kMassChunk);
  const int64_t chunks = rows * scratch.mass_chunks;
  scratch.keys = static_cast<Word*>(memory);
  scratch.draw_keys = scratch.keys + rows * scratch.top_chunks * kMaxTopLogprobs;
  scratch.log_mass = scratch.draw_keys + rows * scratch.top_chunks;
  scratch.draw_mass = scratch.log_mass + chunks;
  scratch.bin_mass = scratch.draw_mass + chunks;
  scratch.bin_count = reinterpret_cast<uint32_t*>(scratch.bin_mass + chunks * kBins);
  scratch.counts = reinterpret_cast<uint16_t*>(scratch.bin_count + chunks * kBins);
  *bytes = reinterpret_cast<char*>(scratch.counts + rows * vocab) - static_cast<char*>(memory);
  return scratch;
}

}  // namespace

int64_t SampleScratchBytes(int32_t max_rows, int32_t vocab) {
  int64_t bytes = 0;
  Divide(nullptr, max_rows, vocab, &bytes);
  return bytes;
}

void Sample(const Logits& logits, const SampleRow* rows, SampledToken* out, int32_t* last_sampled,
            void* scratch, cudaStream_t stream, const Batch& batch) {
  TANDEM_CHECK(logits.vocab > 0 && logits.vocab <= kMaxVocab &&
               logits.vocab <= int64_t{logits.parts} * logits.part_cols)
      << logits.vocab << " tokens in " << logits.parts << " parts of " << logits.part_cols;
  if (logits.rows == 0) return;
  int64_t bytes = 0;
  const SampleArgs args{
      logits, rows, out, last_sampled, Divide(scratch, logits.rows, logits.vocab, &bytes), batch};
  const auto num_rows = static_cast<unsigned>(logits.rows);
  Launch<&SampleTopKernel>({.grid = dim3(args.scratch.top_chunks, num_rows),
                            .block = dim3(kTopThreads),
                            .stream = stream,
                            .dependent = true},
                           args);
  Launch<&SampleMassKernel>({.grid = dim3(args.scratch.mass_chunks, num_rows),
                             .block = dim3(kMassThreads),
                             .stream = stream,
                             .dependent = true},
                            args);
  Launch<&SamplePickKernel>(
      {.grid = dim3(num_rows), .block = dim3(kPickThreads), .stream = stream, .dependent = true},
      args);
}

}  // namespace tandem::kernels::cuda
