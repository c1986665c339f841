"""One module per service, each speaking that service's own terms; the only home of ``azure.*`` clients."""
