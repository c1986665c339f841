// A page in the portal with what the app measures (workbook.json).
param location string
param tags object
param workspaceId string

resource page 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'device-identity-factory')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Device identity factory'
    category: 'workbook'
    sourceId: workspaceId
    version: 'Notebook/1.0'
    serializedData: loadTextContent('../workbook.json')
  }
}
