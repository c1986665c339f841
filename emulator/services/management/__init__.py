"""Azure Resource Manager: the services as Azure resources."""
