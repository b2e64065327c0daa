// Browsers run the timers of a hidden page once a minute, but not those of its workers.
setInterval(() => postMessage(0), 5000);
