// Azurite loads its telemetry library whenever it starts, also with --disableTelemetry: half of all that a start takes.
"use strict";

const Module = require("module");

const load = Module._load;

Module._load = function (request, ...others) {
  return request === "applicationinsights" ? {} : load.call(this, request, ...others);
};
