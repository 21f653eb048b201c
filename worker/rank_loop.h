// What the model thread of every rank does once its group is complete: run the plans in order.
#pragma once

#include "common/status.h"
#include "worker/link/plan_ring.h"
#include "worker/model/model_runner.h"
#include "worker/step_results.h"

namespace tandem::worker {

// Returns OK after an orderly shutdown, else why the group is lost. `results`: where rank 0 puts
// what was sampled; null on the others, who sample the same and need not tell.
Status RunRank(model::ModelRunner& model, link::PlanRing& ring, int rank, StepResults* results);

}  // namespace tandem::worker
