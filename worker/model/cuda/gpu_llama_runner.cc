#include "worker/model/cuda/gpu_llama_runner.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "common/check.h"
#include "common/round.h"
#include "worker/model/cuda/model_check.h"

namespace tandem::model::cuda {
namespace {

// A step takes milliseconds: long enough to leave the core to others, short beside it.
constexpr std::chrono::microseconds kPause(20);
// When a runner goes, its last step is over, or waits for a rank that is gone.
constexpr std::chrono::seconds kLastStepLimit(5);

std::string MiB(int64_t bytes) { return fmt::format("{} MiB", (bytes + (1 << 20) - 1) >> 20); }

StatusOr<kernels::cuda::ActivationType> TypeOf(const ShardOptions& options) {
  if (options.activation_dtype == "bf16") return kernels::cuda::ActivationType::kBf16;
  if (options.activation_dtype == "f16") return kernels::cuda::ActivationType::kF16;
  return InvalidArgument("activation dtype \"{}\" is not known to a GPU; known: bf16, f16",
                         options.activation_dtype);
}

int DeviceOf(const ShardOptions& options, int rank) {
  return options.device_index >= 0 ? options.device_index : rank;
}

}  // namespace

StatusOr<int> GpuLlamaRunner::Check(const ShardOptions& options, int rank, int tp) {
  TANDEM_RETURN_IF_ERROR(UseDevice(DeviceOf(options, rank)).status());
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<ModelSource> source,
                          ModelSource::Open(options.model_path));
  TANDEM_RETURN_IF_ERROR(CheckModel(*source));
  TANDEM_RETURN_IF_ERROR(MakeShardLayout(source->config(), tp).status());
  return source->config().max_context;
}

StatusOr<std::unique_ptr<GpuLlamaRunner>> GpuLlamaRunner::Make(const ShardOptions& options,
                                                               std::unique_ptr<ModelSource> source,
                                                               kernels::Communicator& comm) {
  std::unique_ptr<GpuLlamaRunner> runner(new GpuLlamaRunner(options, std::move(source), comm));
  TANDEM_RETURN_IF_ERROR(runner->Load());
  return runner;
}

GpuLlamaRunner::GpuLlamaRunner(const ShardOptions& options, std::unique_ptr<ModelSource> source,
                               kernels::Communicator& comm)
    : options_(options), source_(std::move(source)), comm_(comm) {}

// Nothing of a step may be running when its memory goes. A step that waits for a rank that is gone
// is told to go on without it.
GpuLlamaRunner::~GpuLlamaRunner() {
  if (stream_ == nullptr) return;
  const auto until = std::chrono::steady_clock::now() + kLastStepLimit;
  while (exchange_ != nullptr && cudaStreamQuery(stream_.get()) == cudaErrorNotReady) {
    if (Poll().ok() && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(kPause);
      continue;
    }
    if (options_.say) options_.say("a step does not end, and goes on without the other ranks");
    Abort();
    break;
  }
  static_cast<void>(cudaStreamSynchronize(stream_.get()));
}

Status GpuLlamaRunner::Load() {
  TANDEM_ASSIGN_OR_RETURN(device_, UseDevice(DeviceOf(options_, comm_.rank())));
  TANDEM_RETURN_IF_ERROR(ReadShape());
  TANDEM_ASSIGN_OR_RETURN(stream_, MakeStream());
  TANDEM_RETURN_IF_ERROR(LoadWeights());
  TANDEM_RETURN_IF_ERROR(
      WithAdvice(AllocateStep(), "lower max_step_tokens or max_seqs, or raise groups[].tp"));
  return CountBlocks();
}

Status GpuLlamaRunner::AllocateStep() {
  if (tp() > 1) {
    if (options_.meet) TANDEM_RETURN_IF_ERROR(options_.meet());
    RankExchangeSpec exchange;
    exchange.max_rows = spec_.max_tokens;
    exchange.hidden = spec_.config.hidden;
    exchange.type = spec_.type;
    exchange.use_peers = options_.peer_memory;
    exchange.sum_limit = options_.sum_limit;
    exchange.say = options_.say;
    TANDEM_ASSIGN_OR_RETURN(exchange_,
                            RankExchange::Make(exchange, device_.index, comm_, stream_.get()));
  }
  TANDEM_ASSIGN_OR_RETURN(forward_, Forward::Make(spec_, weights_, exchange_.get(), stream_.get()));
  attention_.emplace(Forward::AttentionOf(spec_));
  return AllocateFlights();
}

Status GpuLlamaRunner::ReadShape() {
  TANDEM_ASSIGN_OR_RETURN(spec_.type, TypeOf(options_));
  TANDEM_RETURN_IF_ERROR(CheckModel(*source_));
  spec_.config = source_->config();
  const ModelConfig& config = spec_.config;
  TANDEM_ASSIGN_OR_RETURN(const std::vector<RankShard> shards, MakeShardLayout(config, tp()));
  spec_.shard = shards[comm_.rank()];
  spec_.tp = tp();
  // Logits are gathered in parts of equal size: all ranks but the last ones have as many columns.
  spec_.part_cols = static_cast<int>(RoundUp(CeilDiv(config.vocab, tp()), kVocabUnit));
  spec_.shard.vocab = {std::min(comm_.rank() * spec_.part_cols, config.vocab),
                       std::min((comm_.rank() + 1) * spec_.part_cols, config.vocab)};
  info_.architecture = config.architecture;
  info_.vocab_size = config.vocab;
  info_.max_context = options_.max_context > 0 ? std::min(options_.max_context, config.max_context)
                                               : config.max_context;
  info_.instruction_set = fmt::format("sm_{}", device_.compute_capability);
  info_.fingerprint = source_->Fingerprint();
  limits_ = {.max_rows = options_.max_seqs,
             .max_step_tokens = std::max(options_.max_step_tokens, options_.max_seqs),
             // One more than a full context takes: a step planned ahead may run past its end.
             .max_blocks_per_seq = (info_.max_context - 1) / options_.block_size + 2,
             .block_size = options_.block_size,
             .mask_words = MaskWords(config.vocab)};
  spec_.max_tokens = limits_.max_step_tokens;
  spec_.max_seqs = limits_.max_rows;
  spec_.max_context = limits_.max_blocks_per_seq * options_.block_size;
  spec_.block_size = options_.block_size;
  spec_.algorithms = options_.algorithms_file;
  return OkStatus();
}

Status GpuLlamaRunner::LoadWeights() {
  const GpuWeightSpec weights = {*source_, spec_.shard, spec_.type, spec_.max_context};
  const int64_t bytes = GpuWeightBytes(weights);
  TANDEM_RETURN_IF_ERROR(CheckMemory(bytes, Forward::StepBytes(spec_) + LargestLayout().bytes()));
  int64_t tenths = 0;
  const auto on_progress = [&](int64_t done) {
    const int64_t now = 10 * done / bytes;
    if (now == tenths || !options_.say) return;
    tenths = now;
    options_.say(fmt::format("weights: {} of {} on GPU {}", MiB(done), MiB(bytes), device_.index));
  };
  StatusOr<GpuWeights> loaded = LoadGpuWeights(weights, on_progress);
  TANDEM_RETURN_IF_ERROR(
      WithAdvice(loaded.status(), "raise groups[].tp, or take a file of fewer bits a weight"));
  weights_ = std::move(loaded).value();
  return OkStatus();
}

Status GpuLlamaRunner::CheckMemory(int64_t weights, int64_t step) const {
  TANDEM_ASSIGN_OR_RETURN(const int64_t free, FreeBytes());
  const int64_t block = KvBlockBytes(spec_);
  if (weights + step + block <= free) return OkStatus();
  return ResourceExhausted(
      "GPU {} has {} of memory free, and rank {} of {} needs {}: {} of weights, {} for steps of {} "
      "tokens and {} sequences, and KV memory. More ranks (groups[].tp) or a file of fewer bits a "
      "weight lower the first; max_step_tokens and max_seqs the second",
      device_.index, MiB(free), comm_.rank(), tp(), MiB(weights + step + block), MiB(weights),
      MiB(step), spec_.max_tokens, spec_.max_seqs);
}

Status GpuLlamaRunner::WithAdvice(const Status& status, std::string_view settings) const {
  if (status.code() != StatusCode::kResourceExhausted) return status;
  return ResourceExhausted("rank {} of {} on GPU {}: {}; {}", comm_.rank(), tp(), device_.index,
                           Message(status), settings);
}

// What graphs, libraries and other programs may still want of a GPU is not given to KV.
Status GpuLlamaRunner::CountBlocks() {
  TANDEM_ASSIGN_OR_RETURN(const int64_t free, FreeBytes());
  const int64_t usable = free - device_.total_bytes / 20;
  const int64_t block = KvBlockBytes(spec_);
  const int64_t wanted =
      options_.kv_memory_bytes * spec_.shard.kv_heads.size() / spec_.config.num_kv_heads;
  const int64_t bytes = options_.kv_memory_bytes > 0 ? wanted : usable;
  if (bytes > free) {
    return ResourceExhausted(
        "rank {}'s part of kv_memory is {}, and GPU {} has {} left after weights and step memory; "
        "lower groups[].kv_memory, or leave it out",
        comm_.rank(), MiB(bytes), device_.index, MiB(free));
  }
  info_.num_blocks = static_cast<int>(std::clamp<int64_t>(bytes / block, 0, 1 << 30));
  if (info_.num_blocks >= 1) return OkStatus();
  return ResourceExhausted(
      "GPU {} has {} left for KV memory after {} of weights and step memory, less than one block "
      "of {} tokens ({} bytes); lower max_step_tokens or max_seqs, or raise groups[].tp",
      device_.index, MiB(std::max<int64_t>(bytes, 0)), MiB(weights_.bytes), options_.block_size,
      block);
}

StepLayout GpuLlamaRunner::LayoutOf(const StepShape& shape) const {
  return {shape, limits_, attention_->MaxItems(shape.tokens, shape.seqs),
          attention_->MaxMerges(shape.tokens)};
}

StepLayout GpuLlamaRunner::LargestLayout() const {
  const kernels::cuda::AttentionPlan plan(Forward::AttentionOf(spec_));
  const StepShape shape = {spec_.max_tokens, spec_.max_seqs, spec_.max_seqs};
  return {shape, limits_, plan.MaxItems(shape.tokens, shape.seqs), plan.MaxMerges(shape.tokens)};
}

Status GpuLlamaRunner::AllocateFlights() {
  const int64_t bytes = LargestLayout().bytes();
  TANDEM_ASSIGN_OR_RETURN(inputs_, AllocateDevice(bytes));
  for (Flight& flight : flights_) {
    TANDEM_ASSIGN_OR_RETURN(flight.inputs, AllocatePinned(bytes));
    TANDEM_ASSIGN_OR_RETURN(
        flight.results,
        AllocatePinned(static_cast<int64_t>(sizeof(kernels::SampledToken)) * spec_.max_seqs));
    TANDEM_ASSIGN_OR_RETURN(flight.biases, AllocatePinned(int64_t{spec_.max_seqs} *
                                                          kMaxTokenBiases * sizeof(TokenBias)));
    TANDEM_ASSIGN_OR_RETURN(flight.masks, AllocatePinned(static_cast<int64_t>(sizeof(uint32_t)) *
                                                         spec_.max_seqs * limits_.mask_words));
    TANDEM_ASSIGN_OR_RETURN(flight.done, MakeEvent());
    flight.sampled.reserve(spec_.max_seqs);
  }
  return OkStatus();
}

Status GpuLlamaRunner::Prepare(int num_blocks) {
  TANDEM_CHECK(num_blocks >= 1 && num_blocks <= info_.num_blocks)
      << num_blocks << " blocks, " << info_.num_blocks << " fit";
  const char* const advice = "lower groups[].kv_memory or max_seqs";
  StatusOr<KvMemory> kv = AllocateKv(spec_, num_blocks);
  TANDEM_RETURN_IF_ERROR(WithAdvice(kv.status(), advice));
  kv_ = std::move(kv).value();
  info_.num_blocks = num_blocks;
  slots_.emplace(limits_, num_blocks, SlotTable::LastSampled::kOnDevice);
  // No kernel waits for a rank that still allocates.
  comm_.Barrier();
  TANDEM_RETURN_IF_ERROR(comm_.Poll());
  return options_.cuda_graphs ? WithAdvice(CaptureGraphs(), advice) : OkStatus();
}

// Each size runs once before it is captured: libraries choose and load what they need then, which
// they may not in a capture.
Status GpuLlamaRunner::CaptureGraphs() {
  for (int size = 1;; size = std::min(2 * size, spec_.max_seqs)) {
    StepLayout layout = LayoutOf({size, size, size});
    TANDEM_RETURN_IF_ERROR(RunPadding(layout));
    TANDEM_ASSIGN_OR_RETURN(Graph graph, Capture(layout));
    graphs_.push_back({layout, std::move(graph)});
    if (size == spec_.max_seqs) break;
  }
  if (options_.say) {
    options_.say(fmt::format("captured graphs of decodes for {} sizes up to {} sequences",
                             graphs_.size(), spec_.max_seqs));
  }
  return Poll();
}

// Not only its Wait may wait for the other ranks: what chooses how to multiply waits, too, behind
// the sums of the layers before.
Status GpuLlamaRunner::RunPadding(const StepLayout& layout) {
  const auto run = [&] { return EnqueuePadding(layout); };
  return exchange_ == nullptr ? run() : exchange_->WithinLimit(run);
}

Status GpuLlamaRunner::EnqueuePadding(const StepLayout& layout) {
  constexpr int32_t kNone[] = {0};
  attention_->Make(kNone, {});
  StepInputs in;
  in.batch.query_start = kNone;
  Flight& flight = flights_[0];
  const int64_t bytes = layout.Pack(
      {}, in, *attention_, forward_->sampling_inputs(),
      {static_cast<std::byte*>(flight.inputs.get()), static_cast<size_t>(layout.bytes())});
  TANDEM_RETURN_IF_ERROR(CopyUp(flight, bytes));
  forward_->Enqueue(layout, static_cast<std::byte*>(inputs_.get()), kv_);
  TANDEM_RETURN_IF_ERROR(FromCuda(cudaPeekAtLastError(), "a step of padding"));
  TANDEM_RETURN_IF_ERROR(
      FromCuda(cudaEventRecord(flight.done.get(), stream_.get()), "a step of padding"));
  return Wait(flight);
}

StatusOr<Graph> GpuLlamaRunner::Capture(const StepLayout& layout) {
  const char* const what = "capturing a graph";
  TANDEM_RETURN_IF_ERROR(
      FromCuda(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal), what));
  forward_->Enqueue(layout, static_cast<std::byte*>(inputs_.get()), kv_);
  cudaGraph_t captured = nullptr;
  TANDEM_RETURN_IF_ERROR(FromCuda(cudaStreamEndCapture(stream_.get(), &captured), what));
  cudaGraphExec_t graph = nullptr;
  // A launch that was refused is not in the graph, though the capture is fine.
  cudaError_t error = cudaPeekAtLastError();
  if (error == cudaSuccess) error = cudaGraphInstantiate(&graph, captured, 0);
  static_cast<void>(cudaGraphDestroy(captured));
  TANDEM_RETURN_IF_ERROR(FromCuda(error, what));
  return Graph(graph);
}

const GpuLlamaRunner::DecodeGraph* GpuLlamaRunner::GraphFor(const StepPlan& plan,
                                                            const StepInputs& in) const {
  const size_t rows = plan.rows.size();
  if (in.tokens.size() != rows || in.sampled.size() != rows) return nullptr;
  for (const DecodeGraph& graph : graphs_) {
    if (graph.layout.shape().tokens >= static_cast<int32_t>(rows)) return &graph;
  }
  return nullptr;
}

Status GpuLlamaRunner::CheckTokens(const StepInputs& in) const {
  for (const int32_t token : in.tokens) {
    if (token >= spec_.config.vocab) {
      return Internal("token {} in a plan; the vocabulary has {}", token, spec_.config.vocab);
    }
  }
  return OkStatus();
}

Status GpuLlamaRunner::Begin(const StepPlan& plan) {
  TANDEM_CHECK(slots_.has_value()) << "Begin before Prepare";
  TANDEM_CHECK(begun_ - finished_ < kInFlight) << begun_ - finished_ << " steps in flight";
  if (last_step_ && plan.step != *last_step_ + 1) {
    return Internal("rank {} was given step {} after step {}", comm_.rank(), plan.step,
                    *last_step_);
  }
  last_step_ = plan.step;
  Flight& flight = flights_[begun_++ % kInFlight];
  flight.idle = plan.idle();
  flight.num_rows = static_cast<int>(plan.rows.size());
  flight.sampled.clear();
  // Ranks meet in the order of their plans: were it in Finish, one that has begun the next step
  // might wait there for another that waits here.
  if (flight.idle) {
    comm_.Barrier();
    return OkStatus();
  }
  const StepInputs& in = slots_->Apply(plan);
  TANDEM_RETURN_IF_ERROR(CheckTokens(in));
  flight.sampled.assign(in.sampled.begin(), in.sampled.end());
  return Enqueue(plan, in, flight);
}

Status GpuLlamaRunner::Enqueue(const StepPlan& plan, const StepInputs& in, Flight& flight) {
  const auto seqs = static_cast<size_t>(in.batch.num_seqs);
  attention_->Make({in.batch.query_start, seqs + 1}, {in.batch.context_len, seqs});
  const DecodeGraph* const graph = GraphFor(plan, in);
  const StepLayout layout = graph != nullptr ? graph->layout
                                             : LayoutOf({in.batch.num_tokens, in.batch.num_seqs,
                                                         static_cast<int32_t>(in.sampled.size())});
  const int64_t bytes = layout.Pack(
      plan, in, *attention_, forward_->sampling_inputs(),
      {static_cast<std::byte*>(flight.inputs.get()), static_cast<size_t>(layout.bytes())});
  TANDEM_RETURN_IF_ERROR(CopyUp(flight, bytes));
  TANDEM_RETURN_IF_ERROR(forward_->CopyBiases(plan, static_cast<TokenBias*>(flight.biases.get())));
  TANDEM_RETURN_IF_ERROR(forward_->CopyMasks(plan, static_cast<uint32_t*>(flight.masks.get())));
  if (graph != nullptr) {
    TANDEM_RETURN_IF_ERROR(
        FromCuda(cudaGraphLaunch(graph->graph.get(), stream_.get()), "launching a step"));
  } else {
    forward_->Enqueue(layout, static_cast<std::byte*>(inputs_.get()), kv_);
    TANDEM_RETURN_IF_ERROR(FromCuda(cudaPeekAtLastError(), "launching a step"));
  }
  if (!in.sampled.empty()) {
    TANDEM_RETURN_IF_ERROR(
        FromCuda(cudaMemcpyAsync(flight.results.get(), forward_->sampled(),
                                 in.sampled.size() * sizeof(kernels::SampledToken),
                                 cudaMemcpyDeviceToHost, stream_.get()),
                 "copying what was sampled"));
  }
  return FromCuda(cudaEventRecord(flight.done.get(), stream_.get()), "launching a step");
}

Status GpuLlamaRunner::CopyUp(const Flight& flight, int64_t bytes) {
  return FromCuda(cudaMemcpyAsync(inputs_.get(), flight.inputs.get(), static_cast<size_t>(bytes),
                                  cudaMemcpyHostToDevice, stream_.get()),
                  "copying a step's inputs");
}

bool GpuLlamaRunner::Finished() {
  const Flight& flight = flights_[finished_ % kInFlight];
  return flight.idle || cudaEventQuery(flight.done.get()) != cudaErrorNotReady;
}

Status GpuLlamaRunner::Finish(std::span<RowResult> results) {
  TANDEM_CHECK(finished_ < begun_) << "no step in flight";
  const Flight& flight = flights_[finished_++ % kInFlight];
  TANDEM_CHECK(results.size() >= static_cast<size_t>(flight.num_rows)) << results.size();
  if (flight.idle) {
    SaveChoices();
    return Poll();
  }
  TANDEM_RETURN_IF_ERROR(Wait(flight));
  Publish(flight, results);
  return Poll();
}

// Not cudaEventSynchronize: a step that waits for a rank that is gone would never end.
Status GpuLlamaRunner::Wait(const Flight& flight) {
  for (;;) {
    const cudaError_t error = cudaEventQuery(flight.done.get());
    if (error != cudaErrorNotReady) return FromCuda(error, "a step");
    TANDEM_RETURN_IF_ERROR(Poll());
    std::this_thread::sleep_for(kPause);
  }
}

void GpuLlamaRunner::Publish(const Flight& flight, std::span<RowResult> results) const {
  static_assert(kernels::kMaxTopLogprobs == kMaxLogprobs);
  for (int i = 0; i < flight.num_rows; ++i) results[i].token = -1;
  const auto* next = static_cast<const kernels::SampledToken*>(flight.results.get());
  for (const int32_t row : flight.sampled) {
    RowResult& result = results[row];
    result.token = next->token;
    result.logprob = next->logprob;
    result.num_top = next->num_top;
    std::copy_n(next->top_ids, next->num_top, result.top_ids);
    std::copy_n(next->top_logprobs, next->num_top, result.top_logprobs);
    ++next;
  }
}

// There is time for it. Without the file the next start only takes longer.
void GpuLlamaRunner::SaveChoices() {
  const Status saved = forward_->SaveChoices();
  if (!saved.ok() && !save_failed_ && options_.say) options_.say(std::string(Message(saved)));
  save_failed_ = save_failed_ || !saved.ok();
}

Status GpuLlamaRunner::Poll() {
  if (forward_ != nullptr) TANDEM_RETURN_IF_ERROR(forward_->Poll());
  if (exchange_ != nullptr) TANDEM_RETURN_IF_ERROR(exchange_->Poll());
  return comm_.Poll();
}

void GpuLlamaRunner::Abort() {
  if (exchange_ != nullptr) exchange_->Abort();
}

StatusOr<std::vector<float>> GpuLlamaRunner::Logits() {
  const Flight& last = flights_[(begun_ - 1) % kInFlight];
  const auto rows = static_cast<int>(last.sampled.size());
  int stored_rows = rows;
  for (const DecodeGraph& graph : graphs_) {
    if (rows == last.num_rows && graph.layout.shape().tokens >= rows) {
      stored_rows = graph.layout.shape().sampled;
      break;
    }
  }
  const kernels::cuda::Logits logits = forward_->logits(stored_rows);
  const size_t part = static_cast<size_t>(stored_rows) * logits.part_cols;
  std::vector<float> parts(part * logits.parts);
  TANDEM_RETURN_IF_ERROR(
      FromCuda(cudaMemcpyAsync(parts.data(), logits.data, parts.size() * sizeof(float),
                               cudaMemcpyDeviceToHost, stream_.get()),
               "copying logits"));
  TANDEM_RETURN_IF_ERROR(FromCuda(cudaStreamSynchronize(stream_.get()), "copying logits"));
  std::vector<float> all(static_cast<size_t>(rows) * logits.vocab);
  for (int row = 0; row < rows; ++row) {
    for (int col = 0; col < logits.vocab; ++col) {
      all[static_cast<size_t>(row) * logits.vocab + col] =
          logits.scale *
          parts[col / logits.part_cols * part + static_cast<size_t>(row) * logits.part_cols +
                col % logits.part_cols];
    }
  }
  return all;
}

}  // namespace tandem::model::cuda
