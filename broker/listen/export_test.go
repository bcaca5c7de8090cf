package listen

// ReadProxyHeader is for the fuzzer.
var ReadProxyHeader = readProxyHeader
