// A virtual network for the apps, with a subnet for each app (Flex Consumption wants one of its own, delegated to
// Microsoft.App/environments) and one for private endpoints, and the names under which private endpoints are found.
param location string
param tags object
param token string

@description('A /16 or larger.')
param addressSpace string

param zoneNames string[]

@description('Private DNS zones, such as privatelink.blob.core.windows.net.')
param dnsZones string[]

resource network 'Microsoft.Network/virtualNetworks@2025-09-01' = {
  name: 'vnet-${token}'
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [
        addressSpace
      ]
    }
    subnets: concat(
      [
        {
          name: 'private-endpoints'
          properties: {
            addressPrefix: cidrSubnet(addressSpace, 24, 0)
            defaultOutboundAccess: false
            privateEndpointNetworkPolicies: 'Enabled'
            networkSecurityGroup: {
              id: onlyFromInside.id
            }
          }
        }
      ],
      map(range(0, length(zoneNames)), i => {
        name: 'app-${zoneNames[i]}'
        properties: {
          addressPrefix: cidrSubnet(addressSpace, 24, i + 1)
          delegations: [
            {
              name: 'flex-consumption'
              properties: {
                serviceName: 'Microsoft.App/environments'
              }
            }
          ]
        }
      })
    )
  }
}

resource onlyFromInside 'Microsoft.Network/networkSecurityGroups@2025-09-01' = {
  name: 'nsg-${token}'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'https-from-the-network'
        properties: {
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: 'VirtualNetwork'
          sourcePortRange: '*'
          destinationAddressPrefix: 'VirtualNetwork'
          destinationPortRange: '443'
        }
      }
      {
        name: 'nothing-else'
        properties: {
          priority: 4096
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

resource names 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for dnsZone in dnsZones: {
    name: dnsZone
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (dnsZone, i) in dnsZones: {
    parent: names[i]
    name: 'vnet-${token}'
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: {
        id: network.id
      }
    }
  }
]

output endpointSubnetId string = '${network.id}/subnets/private-endpoints'
output appSubnetIds string[] = [for zone in zoneNames: '${network.id}/subnets/app-${zone}']
