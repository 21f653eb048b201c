// The engine's plain types to and from Protobuf. Private to this folder.
#pragma once

#include <span>
#include <string>

#include "proto/tandem.pb.h"
#include "worker/engine/inbox.h"
#include "worker/link/kv_mirror.h"
#include "worker/link/router_link.h"

namespace tandem::link {

inline constexpr uint32_t kProtocolMajor = 3;
inline constexpr uint32_t kProtocolMinor = 2;

void Encode(const GroupDescription& self, wire::Hello& to);
void Encode(const engine::Output& output, Nanos inbox, wire::Sequence& to);
void Encode(std::span<const engine::KvEvent> events, wire::KvEvents& to);
void Encode(const engine::Load& load, wire::Load& to);
void Encode(const engine::StepTiming& timing, wire::StepTiming& to);
void Encode(std::span<const KvMirror::Block> blocks, wire::SnapshotChunk& to);

// What is out of range is left to the engine, which answers it with an error.
engine::Generate Decode(const wire::Generate& from, Nonce router);

}  // namespace tandem::link
