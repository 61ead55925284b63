-- The health of a HardwarePortal for Argo CD, which leaves kinds that it has no rule for out of the health
-- of an application. docs/gitops.md shows where it goes.

local function find_condition(kind)
  for _, condition in ipairs(obj.status.conditions or {}) do
    if condition.type == kind then
      return condition
    end
  end
end

local function is_true(condition)
  return condition ~= nil and condition.status == "True"
end

local function health(status, condition)
  local message = condition.message
  if message == nil or message == "" then
    message = condition.reason
  end
  return {status = status, message = message}
end

if obj.spec ~= nil and obj.spec.suspend == true then
  return {status = "Suspended", message = "spec.suspend is true: nothing is written"}
end
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "the operator has not seen this generation yet"}
end

local stalled = find_condition("Stalled")
if is_true(stalled) then
  return health("Degraded", stalled)
end
local reconciling = find_condition("Reconciling")
if is_true(reconciling) then
  return health("Progressing", reconciling)
end

local ready = find_condition("Ready")
if ready == nil then
  return {status = "Progressing", message = "there is no condition Ready yet"}
end
-- A condition keeps the generation that it was judged for: what cannot be applied leaves the former one.
local is_current = ready.observedGeneration == obj.metadata.generation
if is_true(ready) and is_current then
  return health("Healthy", ready)
end
if ready.reason == "ScaledToZero" then
  return health("Suspended", ready)
end
if not is_current then
  return {status = "Progressing", message = "Ready is about an earlier generation"}
end
return health("Degraded", ready)
