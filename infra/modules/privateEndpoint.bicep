// One way into one service from the virtual network, and its name there.
param location string
param tags object

@minLength(2)
@maxLength(64)
param name string

@description('The service: an id of a storage account, a vault, a provisioning service or a hub.')
param serviceId string

@description('The part of the service: blob, queue, table, vault, iotDps or iotHub.')
param groupId string

param subnetId string

@description('Private DNS zones under whose names the endpoint is found.')
param dnsZones string[]

resource endpoint 'Microsoft.Network/privateEndpoints@2025-09-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    subnet: {
      id: subnetId
    }
    privateLinkServiceConnections: [
      {
        name: groupId
        properties: {
          privateLinkServiceId: serviceId
          groupIds: [
            groupId
          ]
        }
      }
    ]
  }
}

resource names 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2025-09-01' = {
  parent: endpoint
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      for dnsZone in dnsZones: {
        name: replace(dnsZone, '.', '-')
        properties: {
          privateDnsZoneId: resourceId('Microsoft.Network/privateDnsZones', dnsZone)
        }
      }
    ]
  }
}
