// The invariants of docs/engine.md that can be seen from one state.
#include <algorithm>

#include "common/check.h"
#include "worker/engine/engine.h"

namespace tandem::engine {

void Engine::CheckInvariants() const {
  std::vector<const Sequence*> all;
  for (const auto& seq : sequences_) all.push_back(seq.get());
  blocks_.CheckInvariants(all);

  std::vector<int> slots(static_cast<size_t>(limits_.max_rows));
  for (const int32_t slot : free_slots_) ++slots[static_cast<size_t>(slot)];
  for (const Sequence* seq : running_) ++slots[static_cast<size_t>(seq->slot)];
  for (size_t i = 0; i < slots.size(); ++i) {
    TANDEM_CHECK(slots[i] == 1) << "slot " << i << " is owned " << slots[i] << " times";
  }

  size_t alive = 0, in_flight = 0;
  for (const Sequence* seq : all) {
    CheckSequence(*seq);
    alive += !seq->ended();
    in_flight += static_cast<size_t>(seq->num_in_flight);
  }
  TANDEM_CHECK(alive == by_key_.size()) << alive << " alive, " << by_key_.size() << " keys";
  TANDEM_CHECK(waiting_.size() + running_.size() == all.size())
      << waiting_.size() << " + " << running_.size() << " of " << all.size();
  size_t rows = 0;
  for (uint64_t i = 0; i < static_cast<uint64_t>(num_in_flight_); ++i) {
    rows += buffers_[(last_step_number_ - i) % 2].rows.size();
  }
  TANDEM_CHECK(rows == in_flight) << rows << " rows in flight, sequences count " << in_flight;
}

void Engine::CheckSequence(const Sequence& seq) const {
  const bool waiting = seq.state == SeqState::kWaiting;
  TANDEM_CHECK(seq.has_slot() != waiting) << "sequence " << seq.id << " has slot " << seq.slot;
  TANDEM_CHECK(!waiting || (seq.block_table.empty() && seq.num_in_flight == 0))
      << "sequence " << seq.id << " waits with " << seq.block_table.size() << " blocks";
  TANDEM_CHECK(!seq.ended() || seq.num_in_flight > 0)
      << "sequence " << seq.id << " could be freed (engine.invariants.cleanup)";
  TANDEM_CHECK(!seq.preempting || seq.num_in_flight > 0)
      << "sequence " << seq.id << " could give way (engine.invariants.cleanup)";
  TANDEM_CHECK(seq.num_published * limits_.block_size <= seq.num_computed)
      << "sequence " << seq.id << " published what is not computed (engine.invariants.publish)";
  TANDEM_CHECK(seq.num_computed <= seq.num_planned)
      << seq.num_computed << " computed, " << seq.num_planned << " planned";
  TANDEM_CHECK(seq.num_planned <= static_cast<int>(seq.block_table.size()) * limits_.block_size)
      << "sequence " << seq.id << " has " << seq.num_planned << " planned, "
      << seq.block_table.size() << " blocks";
  TANDEM_CHECK(seq.ended() ||
               seq.num_planned <= seq.num_tokens() - 1 + seq.num_sampling_in_flight ||
               seq.state != SeqState::kDecode)
      << "sequence " << seq.id << " is planned past what it samples";
}

}  // namespace tandem::engine
