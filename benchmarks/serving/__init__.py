"""The service around the model, measured beside LitServe and BentoML: what all that costs which is not sampling."""
