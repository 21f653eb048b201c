// Sampling by sorting the whole vocabulary: the oracle for kernels/cpu/sampler.h.
#pragma once

#include <span>

#include "kernels/sampling.h"

namespace tandem::kernels {

// `history`: read if params.penalized().
SampledToken SampleReference(std::span<const float> logits, const SamplingParams& params,
                             const TokenHistory& history = {});

}  // namespace tandem::kernels
