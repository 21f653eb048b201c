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
  TANDEM_ASSIGN_OR_RETURN(trace::Trace read, trace::ReadTrace(options.file));
  auto workload = std::make_unique<TraceWorkload>(std::move(read), options);
  loaded.times = workload->Times();
  loaded.workload = std::move(workload);
  return loaded;
}

}  // namespace tandem::load
