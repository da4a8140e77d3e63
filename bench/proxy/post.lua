-- wrk's request for the case of a body: made once, sent each time.
wrk.method = "POST"
wrk.body = string.rep("x", 10000)
