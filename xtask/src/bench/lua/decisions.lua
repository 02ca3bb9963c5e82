-- The filter's decisions as a person would write them in Lua: state and window by the clock in
-- Kolkata, class by path and method, a sticky canary, a breaker per version, counters. All state is
-- the worker's own: a Lua filter shares nothing with other workers and has no metrics, so its breaker
-- counts only what its worker sees, and nobody can read its counters.
local KOLKATA = 19800
local WEIGHT = 1000 -- of 10,000
local FAILURES = 5
local OPEN_SECONDS = 5
local WINDOWS = { { "evening", 0, 24, "1.5" }, { "always", 0, 24, "1.25" } }
local FESTIVAL = { os.time({ year = 2020, month = 1, day = 1 }), os.time({ year = 2060, month = 1, day = 1 }) }

local breakers = { stable = { failures = 0, open_until = 0 }, v2 = { failures = 0, open_until = 0 } }
local metrics = { active = 0, requests = {}, classes = {}, versions = {}, milliseconds = 0 }

local function traffic(now)
  local hour = math.floor((now + KOLKATA) % 86400 / 3600)
  local names, multiplier = nil, "1"
  for _, window in ipairs(WINDOWS) do
    if hour >= window[2] and hour < window[3] then
      if names then
        names = names .. "," .. window[1]
      else
        names, multiplier = window[1], window[4]
      end
    end
  end
  if now >= FESTIVAL[1] and now < FESTIVAL[2] then
    return "festival", names, multiplier
  end
  return names and "peak_hour" or "normal", names, multiplier
end

local function bucket(key)
  local hash = 5381
  for i = 1, #key do
    hash = (hash * 33 + string.byte(key, i)) % 4294967296
  end
  return hash % 10000
end

local function add(counters, name)
  counters[name] = (counters[name] or 0) + 1
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local now = os.time()
  local state, window, multiplier = traffic(now)
  local path = headers:get(":path")
  local class = "silver"
  if headers:get(":method") == "GET" and path and string.sub(path, 1, 8) == "/orders/" then
    class = "gold"
  end
  local user = headers:get("x-user-id")
  local draw = user and bucket("order-service/" .. user) or math.random(0, 9999)
  local version = draw < WEIGHT and "v2" or "stable"
  if version == "v2" and breakers.v2.open_until > now then
    version = "stable"
  end
  metrics.active = metrics.active + 1
  add(metrics.classes, class)
  add(metrics.versions, version)
  if breakers[version].open_until > now then
    handle:respond(
      { [":status"] = "503", ["x-mumbai-reason"] = "breaker_open", ["retry-after"] = "5" },
      "refused: breaker_open\n"
    )
    return
  end
  headers:remove("x-mumbai-canary")
  headers:replace("x-mumbai-traffic-state", state)
  if window then
    headers:replace("x-mumbai-window", window)
  else
    headers:remove("x-mumbai-window")
  end
  headers:replace("x-mumbai-multiplier", multiplier)
  headers:replace("x-mumbai-class", class)
  headers:replace("x-mumbai-version", version)
  local own = handle:streamInfo():dynamicMetadata()
  own:set("mumbai_mesh", "version", version)
  own:set("mumbai_mesh", "began", handle:timestamp(EnvoyTimestampResolution.MILLISECOND))
end

function envoy_on_response(handle)
  local own = handle:streamInfo():dynamicMetadata():get("mumbai_mesh")
  metrics.active = metrics.active - 1
  local status = handle:headers():get(":status")
  add(metrics.requests, status)
  if not own then
    return
  end
  local now = tonumber(handle:timestamp(EnvoyTimestampResolution.MILLISECOND))
  metrics.milliseconds = metrics.milliseconds + now - tonumber(own["began"])
  local breaker = breakers[own["version"]]
  if tonumber(status) >= 500 then
    breaker.failures = breaker.failures + 1
    if breaker.failures >= FAILURES then
      breaker.failures = 0
      breaker.open_until = os.time() + OPEN_SECONDS
    end
  else
    breaker.failures = 0
  end
end
