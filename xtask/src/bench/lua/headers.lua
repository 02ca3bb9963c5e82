-- Sets the mesh's request headers, and decides nothing.
function envoy_on_request(handle)
  local headers = handle:headers()
  headers:remove("x-mumbai-canary")
  headers:replace("x-mumbai-traffic-state", "festival")
  headers:replace("x-mumbai-window", "evening,always")
  headers:replace("x-mumbai-multiplier", "1.5")
  headers:replace("x-mumbai-class", "gold")
  headers:replace("x-mumbai-version", "stable")
end
