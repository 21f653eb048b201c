// ModelRunner on one GPU of a group. A step goes up in one copy from pinned memory, is enqueued (a
// step of decodes alone as a graph that was captured for its size), and its tokens come down in one
// copy behind an event: two steps may be in flight, because what a step samples is read by the next
// one on the device.
//
// Ranks are processes. They exchange addresses over the group's Communicator when they load, and
// sums and logits over RankExchange in a step.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "kernels/cuda/attention_plan.h"
#include "worker/model/cuda/device.h"
#include "worker/model/cuda/forward.h"
#include "worker/model/cuda/gpu_weights.h"
#include "worker/model/cuda/rank_exchange.h"
#include "worker/model/cuda/step_inputs.h"
#include "worker/model/model_runner.h"
#include "worker/model/model_source.h"
#include "worker/model/slot_table.h"

namespace tandem::model::cuda {

class GpuLlamaRunner final : public ModelRunner {
 public:
  // What Make would refuse by the file's header and this machine's GPU alone; the context that the
  // model was trained for.
  static StatusOr<int> Check(const ShardOptions& options, int rank, int tp);

  // kFailedPrecondition: there is no GPU for it (UseDevice). kResourceExhausted: it has too little
  // memory; the message says how much is needed and which settings lower it.
  static StatusOr<std::unique_ptr<GpuLlamaRunner>> Make(const ShardOptions& options,
                                                        std::unique_ptr<ModelSource> source,
                                                        kernels::Communicator& comm);
  ~GpuLlamaRunner() override;

  const ModelInfo& info() const override { return info_; }
  Status Prepare(int num_blocks) override;
  int max_in_flight() const override { return kInFlight; }
  Status Begin(const StepPlan& plan) override;
  bool Finished() override;
  Status Finish(std::span<RowResult> results) override;
  void Abort() override;

  // Logits of the step that ran last, [rows that sampled, vocab]. For tests: waits for the device.
  StatusOr<std::vector<float>> Logits();

 private:
  static constexpr int kInFlight = 2;

  // A step from Begin to Finish.
  struct Flight {
    PinnedMemory inputs, results, biases, masks;
    Event done;
    bool idle = false;
    int num_rows = 0;              // of the plan
    std::vector<int32_t> sampled;  // plan rows that sample
  };
  struct DecodeGraph {
    StepLayout layout;
    Graph graph;
  };

  GpuLlamaRunner(const ShardOptions& options, std::unique_ptr<ModelSource> source,
                 kernels::Communicator& comm);
  Status Load();
  Status ReadShape();
  Status CheckMemory(int64_t weights, int64_t step) const;
  // What CheckMemory could not foresee: libraries take memory, too. Of other errors: as they are.
  Status WithAdvice(const Status& status, std::string_view settings) const;
  Status AllocateStep();
  Status LoadWeights();
  Status CountBlocks();
  Status AllocateFlights();
  Status CaptureGraphs();
  StatusOr<Graph> Capture(const StepLayout& layout);
  StepLayout LayoutOf(const StepShape& shape) const;
  StepLayout LargestLayout() const;
  // The graph whose step this is, padded; null: none.
  const DecodeGraph* GraphFor(const StepPlan& plan, const StepInputs& in) const;
  Status CheckTokens(const StepInputs& in) const;
  Status Enqueue(const StepPlan& plan, const StepInputs& in, Flight& flight);
  Status RunPadding(const StepLayout& layout);
  Status EnqueuePadding(const StepLayout& layout);
  Status CopyUp(const Flight& flight, int64_t bytes);
  Status Wait(const Flight& flight);
  void Publish(const Flight& flight, std::span<RowResult> results) const;
  void SaveChoices();
  Status Poll();
  int tp() const { return comm_.size(); }

  ShardOptions options_;
  std::unique_ptr<ModelSource> source_;
  kernels::Communicator& comm_;
  ForwardSpec spec_;
  PlanLimits limits_;
  DeviceInfo device_;
  ModelInfo info_;

  Stream stream_;
  GpuWeights weights_;
  std::unique_ptr<RankExchange> exchange_;  // several ranks only
  std::unique_ptr<Forward> forward_;
  std::optional<kernels::cuda::AttentionPlan> attention_;
  KvMemory kv_;
  DeviceMemory inputs_;
  std::vector<DecodeGraph> graphs_;  // by size, ascending
  std::optional<SlotTable> slots_;
  std::optional<uint64_t> last_step_;
  Flight flights_[kInFlight];
  uint64_t begun_ = 0, finished_ = 0;
  bool save_failed_ = false;
};

}  // namespace tandem::model::cuda
