module plimsoll/client

go 1.19
