#include "bench/load/workload.h"

#include "bench/load/sharegpt_workload.h"
#include "bench/load/synthetic_workload.h"
#include "bench/load/trace_workload.h"

namespace tandem::load {

StatusOr<LoadedWorkload> LoadWorkload(const WorkloadOptions& options) {
  LoadedWorkload loaded;
  if (options.dataset == Dataset::kSynthetic) {
    loaded.workload = std::make_unique<SyntheticWorkload>(options);
    return loaded;
  }
  if (options.dataset == Dataset::kShareGpt) {
    TANDEM_ASSIGN_OR_RETURN(loaded.workload, ShareGptWorkload::Read(options));
    return loaded;
  }
  const bool mooncake = options.dataset == Dataset::kMooncake;
  TANDEM_ASSIGN_OR_RETURN(std::vector<TraceRow> rows,
                          mooncake ? ReadMooncake(options.file) : ReadAzure(options.file));
  auto trace = std::make_unique<TraceWorkload>(std::move(rows), options);
  loaded.times = trace->Times();
  loaded.workload = std::move(trace);
  return loaded;
}

}  // namespace tandem::load
