-- No message longer than DLILD_MESSAGE_BYTES passes. gRPC announces the length of a message in the five bytes
-- before it (one for compression, four for the length, the highest first), so a call with a longer one ends
-- before its content is sent to a server, which would make room for up to 2 GiB of it.
local LIMIT = tonumber(os.getenv("DLILD_MESSAGE_BYTES") or "268435456")
local PREFIX = 5

local Messages = {id = "messages", flags = filter.FLT_CFG_FL_HTX}
Messages.__index = Messages

function Messages:new()
    return setmetatable({prefix = "", left = 0}, Messages)
end

function Messages:start_analyze(txn, channel)
    if not channel:is_resp() then
        filter.register_data_filter(self, channel)
    end
end

-- Called with what has arrived of a request's content, a buffer at most. Only prefixes are looked at.
function Messages:http_payload(txn, http)
    local offset, length = 0, http:input()
    while offset < length do
        if self.left > 0 then
            local step = math.min(self.left, length - offset)
            self.left = self.left - step
            offset = offset + step
        else
            local part = http:body(offset, math.min(PREFIX - #self.prefix, length - offset))
            self.prefix = self.prefix .. part
            offset = offset + #part
            if #self.prefix == PREFIX then
                self.left = string.unpack(">I4", self.prefix, 2)
                self.prefix = ""
                if self.left > LIMIT then
                    core.Warning("a message of " .. self.left .. " bytes is refused")
                    return filter.ERROR
                end
            end
        end
    end
end

core.register_filter("messages", Messages, function(class, arguments)
    return class
end)
