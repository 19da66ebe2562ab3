-- No message passes that is longer than a window on a stream (DLILD_WINDOW_BYTES) or than a whole scan in one
-- call (DLILD_SCAN_BYTES). gRPC announces the length of a message in the five bytes before it (one for compression,
-- four for the length, the highest first), so a call with a longer one ends before a server has to hold it: Triton
-- itself takes up to 2 GiB. The contract allows windows of 9 MiB and scans of 128 MiB.
local function setting(name, default)
    return tonumber(os.getenv(name)) or default
end
local STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
local WINDOW = setting("DLILD_WINDOW_BYTES", 16 * 1024 * 1024)
local SCAN = setting("DLILD_SCAN_BYTES", 160 * 1024 * 1024)
local PREFIX = 5

local Messages = {id = "messages", flags = filter.FLT_CFG_FL_HTX}
Messages.__index = Messages

function Messages:new()
    return setmetatable({prefix = "", left = 0, limit = WINDOW}, Messages)
end

function Messages:start_analyze(txn, channel)
    if not channel:is_resp() then
        self.limit = txn.f:path() == STREAM and WINDOW or SCAN
        filter.register_data_filter(self, channel)
    end
end

-- Called with what has arrived of a request's content, a buffer at most. Only prefixes are looked at. An error
-- ends the call.
function Messages:http_payload(txn, http)
    local offset, length = 0, http:input()
    while offset < length do
        if self.left > 0 then
            local step = math.min(self.left, length - offset)
            self.left = self.left - step
            offset = offset + step
        else
            local wanted = math.min(PREFIX - #self.prefix, length - offset)
            local part = http:body(offset, wanted)
            if not part or #part == 0 then
                return -- what follows is no content: the end, or trailers
            end
            -- HAProxy 2.6 gives so much of every block of its buffer: more in all, where a second one has begun.
            part = part:sub(1, wanted)
            self.prefix = self.prefix .. part
            offset = offset + #part
            if #self.prefix == PREFIX then
                self.left = string.unpack(">I4", self.prefix, 2)
                self.prefix = ""
                if self.left > self.limit then
                    error("a message of " .. self.left .. " bytes, more than " .. self.limit, 0)
                end
            end
        end
    end
end

core.register_filter("messages", Messages, function(class, arguments)
    return class
end)
