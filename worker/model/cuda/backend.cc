#include "worker/model/cuda/backend.h"

#include "worker/model/cuda/gpu_llama_runner.h"

namespace tandem::model::cuda {
namespace {

StatusOr<std::unique_ptr<ModelRunner>> Load(const ShardOptions& options,
                                            kernels::Communicator& comm) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<ModelSource> source,
                          ModelSource::Open(options.model_path));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<ModelRunner> runner,
                          GpuLlamaRunner::Make(options, std::move(source), comm));
  return runner;
}

}  // namespace

const DeviceBackend& Backend() {
  static constexpr DeviceBackend kBackend = {&GpuLlamaRunner::Check, &Load};
  return kBackend;
}

}  // namespace tandem::model::cuda
