-- Health of a kaito.sh Workspace.
--
-- The status follows kstatus: Ready, Reconciling and Stalled, with observedGeneration. A controller that writes no
-- Ready condition (KAITO's own) is judged by the conditions that it has: WorkspaceSucceeded or WorkspaceReady.

local function say(status, message)
  local health = {}
  health.status = status
  health.message = message or ""
  return health
end

if obj.metadata.deletionTimestamp ~= nil then
  local finalizers = obj.metadata.finalizers
  if finalizers ~= nil and #finalizers > 0 then
    return say("Progressing", "Being deleted; waiting for: " .. table.concat(finalizers, ", "))
  end
  return say("Progressing", "Being deleted")
end

if obj.status == nil or obj.status.conditions == nil then
  return say("Progressing", "Waiting for the node-watcher to report")
end

-- Since when a condition is about the present spec; the whole status may say so, or each condition.
local generation = obj.metadata.generation
local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  local seen = condition.observedGeneration or obj.status.observedGeneration
  if generation == nil or seen == nil or seen == generation then
    conditions[condition.type] = condition
  end
end
if generation ~= nil and obj.status.observedGeneration ~= nil and obj.status.observedGeneration ~= generation then
  return say("Progressing", "Waiting for the node-watcher to see the latest change")
end

local function is(kind, value)
  return conditions[kind] ~= nil and conditions[kind].status == value
end

if is("Stalled", "True") then
  return say("Degraded", conditions["Stalled"].message)
end
if is("Ready", "True") then
  return say("Healthy", conditions["Ready"].message)
end
if is("Reconciling", "True") then
  return say("Progressing", conditions["Reconciling"].message)
end
if conditions["Ready"] ~= nil then
  return say("Progressing", conditions["Ready"].message)
end

-- No Ready condition: KAITO's own controller. WorkspaceReady is what its first releases wrote.
for _, kind in ipairs({"WorkspaceSucceeded", "WorkspaceReady"}) do
  if is(kind, "True") then
    return say("Healthy", conditions[kind].message)
  end
  if is(kind, "False") then
    local reason = conditions[kind].reason
    if reason == "workspaceFailed" or reason == "BenchmarkFailed" then
      return say("Degraded", conditions[kind].message)
    end
    return say("Progressing", conditions[kind].message)
  end
end
for _, kind in ipairs({"InferenceReady", "ResourceReady"}) do
  if conditions[kind] ~= nil then
    return say("Progressing", conditions[kind].message)
  end
end
return say("Progressing", "Waiting for the node-watcher to report")
